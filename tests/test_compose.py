"""The rules of the compose file and the Dockerfiles, checked by parsing: no engine is needed.

Most of them were learnt by running it; docs/deploy.md says on what.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from trainyard.settings import Settings

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
WORKER_TEXT = (ROOT / "deploy/worker.compose.yml").read_text()
WORKERS_ALONE: dict[str, dict[str, Any]] = yaml.safe_load(WORKER_TEXT)["services"]
EVERY_SERVICE = [(name, SERVICES[name]) for name in SERVICES] + [
    (f"{name} alone", s) for name, s in WORKERS_ALONE.items()
]
PINNED: set[str] = {
    canonicalize_name(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()
}
OURS = [name for name, service in SERVICES.items() if "build" in service]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
#: What an image may hold: the dependencies, and the extras for a yard, an object store and traces.
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
OFFERED = [*PYPROJECT["project"]["dependencies"], *EXTRAS["yard"], *EXTRAS["s3"], *EXTRAS["otel"]]
IMAGES = {"redis:7-alpine", "postgres:16", "python:3.11-slim"}
DOCKERFILES = sorted((ROOT / "deploy").glob("Dockerfile*"))
API_ONLY = {
    *("TRAINYARD_HOST", "TRAINYARD_PORT", "TRAINYARD_ADMIN_KEY"),
    *("TRAINYARD_METRICS_KEY", "TRAINYARD_OPEN_METRICS"),
}
NOT_OFFERED = {
    "TRAINYARD_ALLOW_OPEN_NETWORK",
    "TRAINYARD_TESTING",
    "TRAINYARD_FAILPOINTS",
    "TRAINYARD_KEY",
    "TRAINYARD_URL",
}


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_a_known_image_and_a_healthcheck(name: str) -> None:
    service = SERVICES[name]
    if "image" in service:
        assert service["image"] in IMAGES
    else:
        assert (ROOT / service["build"]["dockerfile"]).exists()
    assert "healthcheck" in service or service.get("restart") == "no"


def test_compose_1_29_reads_it_as_well_as_version_2() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} == {"services", "volumes"}  # 1.29 refuses `name`
    assert not re.search(r"\$\{[^}]*\$\{", TEXT)  # nor does it know one variable inside another
    assert not any("env_file" in service for service in SERVICES.values())  # it has no optional ones


@pytest.mark.parametrize("name", ["api", "worker", "worker-gpu"])
def test_every_setting_can_be_made(name: str) -> None:
    settings = {f"TRAINYARD_{field.upper()}" for field in Settings.model_fields}
    offered = settings - NOT_OFFERED - (set() if name == "api" else API_ONLY)
    assert set(SERVICES[name]["environment"]) == offered


@pytest.mark.parametrize("name", OURS)
def test_a_variable_that_is_not_set_is_not_passed_on_as_an_empty_one(name: str) -> None:
    given = {key for key, value in SERVICES[name]["environment"].items() if value is not None}
    assert given <= {
        "TRAINYARD_DATA_DIR",
        "TRAINYARD_DATABASE_URL",
        "TRAINYARD_REDIS_URL",
        "TRAINYARD_LOCKS_DIR",
        *API_ONLY,
    }
    # a name alone; `${PIP_NO_INDEX:-}` would hide what the base image says from pip
    assert all(re.fullmatch("(PIP|PYTORCH)_[A-Z_]+", argument) for argument in SERVICES[name]["build"]["args"])


@pytest.mark.parametrize("secret", ["TRAINYARD_ADMIN_KEY", "POSTGRES_PASSWORD", "REDIS_PASSWORD"])
def test_a_secret_is_required(secret: str) -> None:
    assert set(re.findall(rf"\$\{{{secret}(.)", TEXT)) == {":"}
    assert f"${{{secret}:-" not in TEXT


def test_the_api_is_published_on_this_machine_only_and_waits_for_the_migration() -> None:
    assert SERVICES["api"]["ports"] == ["${TRAINYARD_PUBLISH:-127.0.0.1:8000}:8000"]
    for name in ("api", "worker", "worker-gpu"):
        assert SERVICES[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


@pytest.mark.parametrize("name", ["api", "worker", "worker-gpu"])
def test_a_process_gets_signals_from_its_first_moment_on(name: str) -> None:
    assert SERVICES[name]["init"] is True  # Python as process 1 ignores SIGTERM until it has set up its handlers


def test_a_worker_has_the_time_to_hand_its_job_back() -> None:
    stop_grace_s = Settings.model_fields["stop_grace_s"].default
    assert int(SERVICES["worker"]["stop_grace_period"].removesuffix("s")) > 2 * stop_grace_s


def test_redis_itself_gets_signals_and_its_password_stands_in_no_command_line() -> None:
    shell, flag, script = SERVICES["redis"]["command"]
    assert (shell, flag) == ("sh", "-c")
    command, _, settings = script.partition("\n")
    assert command.startswith("exec ")
    assert command.endswith(" redis-server - <<END")  # a pipe would leave the shell as process 1, which ignores SIGTERM
    assert "requirepass $$REDIS_PASSWORD\n" in settings


def test_postgres_is_not_healthy_while_its_first_start_makes_the_database() -> None:
    test = SERVICES["postgres"]["healthcheck"]["test"]
    assert test[test.index("-h") + 1] == "127.0.0.1"  # that server listens on its socket alone


@pytest.mark.parametrize(("name", "service"), EVERY_SERVICE, ids=lambda value: value if isinstance(value, str) else "")
def test_no_volume_without_a_name_is_made(name: str, service: dict[str, Any]) -> None:
    """The engine makes one for each VOLUME of an image that nothing is mounted at, and `down` leaves it behind."""
    declared = {"postgres:16": "/var/lib/postgresql/data", "redis:7-alpine": "/data"}
    if "build" in service:
        (folder,) = re.findall(r"^VOLUME (\S+)$", (ROOT / service["build"]["dockerfile"]).read_text(), re.M)
    else:
        folder = declared[service["image"]]
    assert folder in {volume.rpartition(":")[2] for volume in service.get("volumes", [])}, name


@pytest.mark.parametrize("workers", [SERVICES, WORKERS_ALONE], ids=["the first machine", "alone"])
@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_worker_whose_cores_train_is_not_called_unhealthy(name: str, workers: dict[str, dict[str, Any]]) -> None:
    """A check starts a Python, which takes its time where ten processes want each core."""
    healthcheck = workers[name]["healthcheck"]
    assert int(healthcheck["timeout"].removesuffix("s")) >= 30
    assert int(healthcheck["interval"].removesuffix("s")) >= 30  # or the checks themselves take what they wait for


@pytest.mark.parametrize(("name", "service"), EVERY_SERVICE, ids=lambda value: value if isinstance(value, str) else "")
def test_a_service_has_no_right_that_it_does_not_need(name: str, service: dict[str, Any]) -> None:
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert "/tmp" in {mount.partition(":")[0] for mount in service["tmpfs"]}
    user = service.get("user", "the Dockerfile's" if "build" in service else "root")
    assert user != "root", f"{name} begins as root, without the rights that root needs to become somebody else"


@pytest.mark.parametrize(("name", "service"), EVERY_SERVICE, ids=lambda value: value if isinstance(value, str) else "")
def test_a_service_can_take_neither_all_memory_nor_all_processes_nor_the_disk(
    name: str, service: dict[str, Any]
) -> None:
    limit = str(service["mem_limit"])
    assert re.fullmatch(r"\d+g|\$\{[A-Z]+_MEMORY:-\d+[gm]\}", limit), f"{name}: {limit}"
    assert 0 < service["pids_limit"] <= 4096
    assert service["logging"]["options"] == {"max-size": "10m", "max-file": "5"}


def test_workers_of_a_second_machine_are_those_of_the_first_but_for_where_things_are() -> None:
    elsewhere = {"TRAINYARD_DATABASE_URL", "TRAINYARD_REDIS_URL"}
    assert set(WORKERS_ALONE) == {"worker", "worker-gpu"}
    for name, alone in WORKERS_ALONE.items():
        beside = SERVICES[name]
        assert set(beside) - set(alone) == {"depends_on"}
        differing = {key for key in alone if alone[key] != beside[key]}
        assert differing == {"build", "environment", "volumes"}
        assert alone["build"] == beside["build"] | {"context": ".."}
        assert set(alone["environment"]) == set(beside["environment"])
        assert {k for k, v in alone["environment"].items() if v != beside["environment"][k]} == elsewhere
        assert all(alone["environment"][key].startswith(f"${{{key}:?") for key in elsewhere)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_a_dockerfile_keeps_the_rules(path: Path) -> None:
    text = path.read_text()
    assert set(re.findall(r"^FROM (\S+)", text, re.M)) <= IMAGES | {"libraries"}
    assert re.search(r"^USER (?!root)", text, re.M)
    assert not re.search(r"# syntax=|--mount|apt-get|curl|<<|--upgrade|:latest", text)
    assert "://" not in text, "an index is named by who builds"


def test_the_images_differ_in_their_own_libraries_and_their_command_only() -> None:
    """So they share the layer with torch in it, which comes before all that differs."""
    api, worker = (path.read_text().splitlines()[1:] for path in DOCKERFILES)
    differing = [(one, other) for one, other in zip(api, worker, strict=True) if one != other]
    assert [one.replace("api", "worker") for one, _ in differing] == [other for _, other in differing]
    assert [re.split(r"[\s,]", one)[0] for one, _ in differing] == ["RUN", "CMD"]
    last = "\n".join(api).rpartition("\nFROM ")[2]
    assert last.index("COPY --from=libraries") < last.index("COPY --from=own")


def test_nothing_that_only_the_build_needs_is_in_the_last_stage() -> None:
    stages = re.split(r"^FROM ", DOCKERFILES[0].read_text(), flags=re.M)[1:]
    assert "wheels" in stages[0]
    assert "wheels" not in stages[-1]
    assert "pip" not in stages[-1]


def test_every_stage_that_installs_takes_all_arguments_of_the_build() -> None:
    stages = re.split(r"^FROM ", DOCKERFILES[0].read_text(), flags=re.M)[1:]
    given = SERVICES["api"]["build"]["args"]
    for stage in (stage for stage in stages if "pip install" in stage):
        assert re.findall(r"^ARG (\w+)$", stage, re.M) == given


def test_a_change_of_the_source_installs_nothing_anew() -> None:
    libraries = DOCKERFILES[0].read_text().split("AS source")[0]
    build_needs = ["pyproject.toml constraints.txt deploy/list_requirements.py wheels* wheels/"]
    assert re.findall(r"^COPY (.+)", libraries, re.M) == build_needs


def test_every_package_is_copied_and_nothing_else_goes_to_the_builder() -> None:
    packages = {name.rstrip("*") for name in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]}
    assert set(re.findall(r"^COPY (\w+) /app/", DOCKERFILES[0].read_text(), re.M)) == packages
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in ignore
    build_needs = {"pyproject.toml", "constraints.txt", "deploy/list_requirements.py", "wheels"}
    assert {line[1:] for line in ignore if line.startswith("!")} == packages | build_needs


# --- what the images hold of the libraries ---

#: What runs in an image, and the modules that it never gets to: they are for a yard on one machine, and for the hand.
ENTRIES = {
    "api": {
        "api.__main__",
        "api.web_process",
        "api.engine_process",
        "trainyard.__main__",
        "alexnet_core.insight.child",
    },
    "worker": {"worker.__main__", "alexnet_core.__main__"},
}
_ON_ONE_MACHINE = {"trainyard.launch.yard", "trainyard.launch.demo", "trainyard.launch.doctor"}
_IN_A_NOTEBOOK = {"trainyard.client.series", "trainyard.client.progress"}
_BY_HAND = {"alexnet_core.export.file", "alexnet_core.export.keras_reader"}
NEVER = {
    "api": _ON_ONE_MACHINE
    | _IN_A_NOTEBOOK
    | _BY_HAND
    | {"alexnet_core.data.published.fetching"},  # the worker makes the packs
    # the API draws, and who asks for the client is no worker
    "worker": _ON_ONE_MACHINE | _BY_HAND | {"alexnet_core.evaluation.curves", "trainyard.client"},
}
#: Libraries that no import names: a driver by its URL, a server by its extra, data in a wheel.
UNNAMED = {"psycopg", "redis", "uvicorn", "scikit-learn", "fastapi-offline", "python-multipart", "pysqlite3"}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_by(image: str) -> set[str]:
    """The distributions that an image's modules import, at any time."""
    packages = ("alexnet_core", "trainyard", "worker", "api")
    paths = {
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__"): path
        for package in packages
        for path in (ROOT / package).rglob("*.py")
    }
    waiting, seen, outside = set(ENTRIES[image]), set[str](), set[str]()
    waiting |= {name for name in paths if image == "api" and name.startswith("trainyard.database.migrations")}
    while waiting:
        name = waiting.pop()
        seen.add(name)
        found = imports_of(paths[name])
        waiting |= (found & set(paths)) - seen - NEVER[image]
        outside |= {module.partition(".")[0] for module in found} - set(packages)
    libraries = packages_distributions()  # once setuptools was imported, also what it holds copies of
    found_in: set[str] = {canonicalize_name(name) for module in outside for name in libraries.get(module, [])}
    return found_in & PINNED


@pytest.mark.parametrize("image", ENTRIES)
def test_an_image_holds_what_it_imports_and_nothing_in_vain(image: str) -> None:
    names = PYPROJECT["tool"]["trainyard"]["images"]["shared"] + PYPROJECT["tool"]["trainyard"]["images"][image]
    held = set(map(canonicalize_name, names))
    imported = imported_by(image)
    assert {"torch", "sqlalchemy"} <= imported
    chosen = [text for text in OFFERED if canonicalize_name(Requirement(text).name) in held]
    assert imported <= needed(chosen), "the image lacks it"


def test_the_images_hold_nothing_that_neither_imports() -> None:
    images = PYPROJECT["tool"]["trainyard"]["images"]
    assert set(map(canonicalize_name, images["shared"])) - UNNAMED <= imported_by("api") | imported_by("worker")
    for image in ENTRIES:
        assert set(map(canonicalize_name, images[image])) - UNNAMED <= imported_by(image)


def test_an_images_requirements_are_listed_with_their_versions() -> None:
    images = PYPROJECT["tool"]["trainyard"]["images"]
    for groups in (["worker"], [*images]):
        command = [sys.executable, "deploy/list_requirements.py", "pyproject.toml", *groups]
        listed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()
        assert set(listed) <= set(OFFERED)
        names = [Requirement(text).name for text in listed]
        assert sorted(names) == sorted({name for group in groups for name in images[group]})


def test_the_documented_wheels_are_those_of_every_image() -> None:
    """They are collected by the base image's Python, because what a library needs may depend on its patch release."""
    blocks = re.findall(r"```bash\n(.*?)```", (ROOT / "docs/deploy.md").read_text(), re.S)
    (block,) = [block for block in blocks if "pip wheel" in block]
    (line,) = [line for line in block.splitlines() if "list_requirements.py" in line]
    groups = re.search(r"list_requirements\.py pyproject\.toml ([\w ]+) >", line)
    assert groups is not None
    assert groups[1].split() == list(PYPROJECT["tool"]["trainyard"]["images"])
    assert any(image in block for image in IMAGES if image.startswith("python"))
    assert "--constraint constraints.txt" in block


def test_every_library_that_is_imported_is_declared() -> None:
    """An image holds what `dependencies` asks for, and not what a library of the tests happens to bring."""
    declared = needed(PYPROJECT["project"]["dependencies"] + EXTRAS["yard"]) | {"trainyard", "pip"}
    absent = [
        module
        for module, distributions in packages_distributions().items()
        if declared.isdisjoint(map(canonicalize_name, distributions)) and not module.startswith("_")
    ]
    assert {"pytest", "mypy"} <= set(absent)
    code = f"""
        import sys

        class Image:
            def find_spec(self, name, path=None, target=None):
                if name in {absent!r}:
                    raise ModuleNotFoundError(f"an image has no {{name}}", name=name)

        sys.meta_path.insert(0, Image())
        import api.app, worker.app, worker.station, alexnet_core.__main__, trainyard.launch.cli
        import kombu.transport.redis, psycopg
    """
    found = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert found.returncode == 0, found.stderr


def needed(dependencies: list[str]) -> set[str]:
    """The names of these distributions and of all that they need on this platform."""
    names: set[str] = set()
    seen: set[str] = set()
    waiting = [(Requirement(text), {""}) for text in dependencies]
    while waiting:
        requirement, extras = waiting.pop()
        marker = requirement.marker
        if str(requirement) in seen or not (marker is None or any(marker.evaluate({"extra": e}) for e in extras)):
            continue
        seen.add(str(requirement))
        names.add(canonicalize_name(requirement.name))
        waiting += [(Requirement(text), {"", *requirement.extras}) for text in requires(requirement.name) or []]
    return names
