"""`web/build.py`: which Node it takes, what it does without one, and that a wheel holds what it built."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("web_build", ROOT / "web/build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The page's sources alone, as in a fresh clone."""
    ignored = shutil.ignore_patterns("node_modules", ".node", "types.d.ts")
    shutil.copytree(ROOT / "web", tmp_path / "web", ignore=ignored)
    (tmp_path / "api").mkdir()
    return tmp_path


def run(checkout: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(checkout / "web/build.py"), *arguments]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("v20.19.0", True),
        ("v20.18.9", False),
        ("v21.7.0", False),
        ("v22.11.0", False),
        ("v22.12.0", True),
        ("v23.9.0", False),
        ("v24.0.0", True),
        ("v18.20.4", False),
        ("", False),
        ("node", False),
    ],
)
def test_a_node_that_is_too_old_is_not_taken(build: ModuleType, version: str, enough: bool) -> None:
    assert build.is_new_enough(version) is enough


def test_without_node_and_network_set_up_goes_on_and_a_build_fails(checkout: Path) -> None:
    alone = {"PATH": str(checkout), "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    assert run(checkout, "--optional", **alone).returncode == 0
    failed = run(checkout, **alone)
    assert failed.returncode == 1
    assert "run `make page`" in failed.stderr
    assert not (checkout / "api/page").exists()


def test_the_digest_changes_with_a_source_and_not_with_what_the_build_makes(
    build: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "WEB", checkout / "web")
    before = build._digest(build.sources())
    (checkout / "web/src/api/types.d.ts").write_text("made")
    (checkout / "web/node_modules").mkdir()
    (checkout / "web/node_modules/x.js").write_text("installed")
    (checkout / "web/tests/new.test.ts").write_text("a test")
    assert build._digest(build.sources()) == before
    with (checkout / "web/src/App.svelte").open("a") as file:
        file.write("\n")
    assert build._digest(build.sources()) != before


def test_the_lockfile_names_no_host(build: ModuleType) -> None:
    text = (ROOT / "web/package-lock.json").read_text()
    assert '"resolved"' not in text
    assert "://registry" not in text


@pytest.mark.slow
def test_a_wheel_holds_the_page(tmp_path: Path) -> None:
    """Made from a copy: a build leaves folders beside the sources."""
    page = ROOT / "api/page"
    assert (page / "index.html").is_file(), "run `make page`"
    for name in ("alexnet_core", "api", "trainyard", "worker"):
        shutil.copytree(ROOT / name, tmp_path / "tree" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path / "tree" / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(tmp_path / "tree")], check=True)
    (wheel,) = tmp_path.glob("*.whl")
    built = {f"api/page/{file.relative_to(page).as_posix()}" for file in page.rglob("*") if file.is_file()}
    with zipfile.ZipFile(wheel) as archive:
        assert built <= set(archive.namelist())
        assert "api/http/page.py" in archive.namelist()
