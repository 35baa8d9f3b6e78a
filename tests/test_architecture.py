"""The arrows between the packages, and what an import may pull in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("alexnet_core", "trainyard", "worker", "api")
ARROWS = {
    "alexnet_core": set(),
    "trainyard": {"alexnet_core.config", "alexnet_core.errors"},
    "worker": {"alexnet_core", "trainyard"},
    "api": {"alexnet_core", "trainyard"},
}
READS_ENVIRONMENT = {
    "trainyard/settings.py",
    "alexnet_core/__main__.py",  # hands torchrun's variables on
    "api/__main__.py",  # sets OMP_WAIT_POLICY for its own process
    "worker/devices.py",  # reads which GPUs it may see
    "worker/children.py",  # hands a scrubbed environment to the trainer
}
MODULES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_keeps_the_rules(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    package = name.split("/")[0]
    for imported in imports_of(path):
        if imported.split(".")[0] in set(PACKAGES) - {package}:
            allowed = any(imported == arrow or imported.startswith(arrow + ".") for arrow in ARROWS[package])
            assert allowed, f"{name} must not import {imported}"
    assert path.stem not in {"utils", "helpers", "common", "manager"}
    assert len(path.read_text().splitlines()) <= 400, f"{name} is too long"
    if name not in READS_ENVIRONMENT:
        assert not {"os.environ", "os.getenv"} & _attributes(path), f"{name} reads the environment"


def test_nothing_unpickles() -> None:
    """A pickle runs what its writer wants; `alexnet_core.data.published.pickles` reads the opcodes without acting on them."""
    for path in MODULES:
        assert "torch.load" not in _attributes(path), path
        modules = {name.split(".")[0] for name in imports_of(path)}
        assert not {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"} & modules, path
        text = path.read_text()
        assert not re.search(r"weights_only\s*=\s*False|allow_pickle\s*=\s*True", text), path


def _attributes(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {f"{n.value.id}.{n.attr}" for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted({{'torch', 'fastapi'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_books_and_the_command_line_pulls_in_neither_torch_nor_fastapi() -> None:
    names = [
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        for path in sorted((ROOT / "trainyard").glob("*.py"))
        if path.stem != "__main__"
    ]
    assert loaded_after(f"import {', '.join(names)}") == set()


@pytest.mark.parametrize("package", ["worker", "api"])
def test_importing_worker_or_api_does_not_pull_in_torch(package: str) -> None:
    names = [f"{package}.{path.stem}" for path in sorted((ROOT / package).glob("*.py")) if path.stem != "__init__"]
    assert "torch" not in loaded_after(f"import {', '.join(names)}")


def test_a_worker_that_waits_for_jobs_has_not_loaded_torch(tmp_path: Path) -> None:
    code = f"""
        from pathlib import Path
        from trainyard.database.connection import Database
        from trainyard.database.schema import migrate
        from trainyard.settings import Settings
        from worker.app import build_app
        from worker.station import Station

        settings = Settings(data_dir=Path({str(tmp_path)!r}))
        migrate(Database(settings.sqlalchemy_url))
        station = Station(settings)
        build_app("redis://127.0.0.1:1/0", station)
        station.open()
        station.work()
        station.drain()
        station.close()
    """
    assert loaded_after(textwrap.dedent(code)) == set()
