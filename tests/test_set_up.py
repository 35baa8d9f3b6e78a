"""What sets a checkout up and checks it: versions, targets of make, hooks. `make check` leaves no test out unseen."""

from __future__ import annotations

import itertools
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = [
    text
    for texts in PROJECT["optional-dependencies"].values()
    for text in texts
    if Requirement(text).name != PROJECT["name"]  # an extra that names others
]


MARKS = dict(re.findall(r"^(BESIDE_OTHERS|ALONE) := (.*)$", MAKEFILE, flags=re.M))  #: which tests a target runs


def recipe(target: str) -> str:
    """The commands of a target of make, with the marks of the tests that it runs."""
    text = re.split(rf"^{target}: .*\n", MAKEFILE, flags=re.M)[1].partition("\n\n")[0]
    return re.sub(r"\$\((BESIDE_OTHERS|ALONE)\)", lambda name: MARKS[name[1]], text)


def targets_of(target: str) -> list[list[str]]:
    """The other targets that one of make runs, by the line that runs them."""
    lines = re.findall(r"\$\(MAKE\)(.*)", recipe(target))
    return [[word for word in line.split() if re.fullmatch(r"[a-z][a-z-]+", word)] for line in lines]


@pytest.mark.parametrize("requirement", [*PROJECT["dependencies"], *EXTRAS])
def test_the_constraints_choose_a_version_of_every_dependency_that_it_allows(requirement: str) -> None:
    wanted = Requirement(requirement)
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    chosen = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}
    version = chosen.get(canonicalize_name(wanted.name))
    assert version is not None, "run `make constraints`"
    assert Version(version) in wanted.specifier, "run `make constraints`"


def test_a_line_of_a_test_whose_types_are_not_checked_names_the_error_and_says_why() -> None:
    mark = "# type:" + " ignore"
    for path in (ROOT / "tests").rglob("*.py"):
        for line in path.read_text().splitlines():
            assert mark not in line or re.search(rf"{mark}\[[a-z-]+\]  # \w", line), f"{path}: {line.strip()}"


def test_every_constraint_is_one_version_and_names_no_host() -> None:
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        assert re.fullmatch(r"[\w.-]+==[\w.!]+", line), line


def test_set_up_and_images_keep_to_the_constraints() -> None:
    assert "--constraint constraints.txt" in recipe(r"\$\(STAMP\)")
    for path in (ROOT / "deploy").glob("Dockerfile.*"):
        assert path.read_text().count("--constraint") == path.read_text().count("pip install --"), path


@pytest.mark.parametrize(
    ("targets", "commands"),
    [
        (("test", "slow", "test-browser", "test-docs", "chaos"), [1, 2, 1, 1, 1]),
        (("test-all", "test-browser", "test-docs", "chaos"), [2, 1, 1, 1]),
    ],
)
def test_every_test_runs_in_one_target_of_make(targets: tuple[str, ...], commands: list[int]) -> None:
    """By its marks; a test with two of them must not fall between the targets, nor run twice."""
    calls = {target: re.findall(r"-m '?([^'\n]+)", recipe(target)) for target in targets}
    assert [len(expressions) for expressions in calls.values()] == commands
    for marks in itertools.product([False, True], repeat=5):
        given = dict(zip(("alone", "slow", "browser", "documentation", "chaos"), marks, strict=True))
        chosen = [text for texts in calls.values() for text in texts if eval(text, {}, given)]
        assert len(chosen) == 1, (given, chosen)


TARGETS = ("test", "slow", "test-all", "test-browser", "chaos")


def test_nothing_runs_beside_a_test_that_needs_the_cores_to_itself() -> None:
    assert re.search(r"^TOGETHER := -n ", (ROOT / "Makefile").read_text(), re.M)
    for line in (line for target in TARGETS for line in recipe(target).splitlines()):
        assert ("$(TOGETHER)" in line) == ("not alone" in line), line
    assert " -n 2 " in recipe("test-browser")
    for path in (ROOT / "tests/browser").rglob("*.py"):
        assert "mark.alone" not in path.read_text(), f"{path}: tests of the page run two files at a time"


def test_the_tests_that_run_alone_are_looked_for_where_they_are() -> None:
    """A mark that another file gives, such as a conftest, would not be found, and its tests would run nowhere."""
    [search] = re.findall(r"^FILES_ALONE = \$(.+)$", MAKEFILE, re.M)
    found = subprocess.run(["bash", "-c", f"echo {search}"], cwd=ROOT, check=True, capture_output=True, text=True)
    mark = "mark" + ".alone"
    marked = {path for path in (ROOT / "tests").rglob("*.py") if f"pytest.{mark}" in path.read_text()}
    assert {ROOT / name for name in found.stdout.split()} == marked
    assert len(marked) > 1


def test_what_decides_in_ci_is_what_a_contributor_runs() -> None:
    assert targets_of("check") == [["lint", "spelling", "types", "web"], ["test-all", "test-browser"]]
    run = re.sub(r"^PYTEST_ADDOPTS=\S.* make", "make", (ROOT / ".ci/run").read_text(), flags=re.M)
    assert re.findall(r"^make (\w+)$", run, re.M) == ["setup", "check"]


def test_hooks_run_the_programs_of_the_checkout_and_need_no_network() -> None:
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    assert [repository["repo"] for repository in config["repos"]] == ["local"]
    hooks = config["repos"][0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    programs = {hook["entry"].split()[0].removeprefix(".venv/bin/") for hook in hooks}
    checks = recipe("lint") + recipe("spelling") + recipe("types")
    assert programs == set(re.findall(r"\$\(BIN\)/(\w+)", checks))


def test_the_licence_is_the_one_that_is_declared_and_whole() -> None:
    assert PROJECT["license"] == "Apache-2.0"
    text = (ROOT / "LICENSE").read_text()
    assert "Version 2.0, January 2004" in text
    sections = [f"{number}." for number in range(1, 10)]
    assert re.findall(r"^   (\d\.) ", text, re.M) == sections
    assert text.rstrip().endswith("limitations under the License.")


def test_the_tests_leave_nothing_that_git_sees(tmp_path: Path) -> None:
    """What they and the programs around them write into a checkout is ignored."""
    left = [".coverage", ".coverage.host.1", ".pytest_cache/x", ".hypothesis/x", "trainyard-data/x", "x.egg-info/x"]
    left += ["api/page/index.html", "web/node_modules/x", "web/.node/x", "web/src/api/types.d.ts"]
    done = subprocess.run(["git", "check-ignore", *left], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.split() == left
