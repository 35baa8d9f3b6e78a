"""The arrows between the packages, and what an import may pull in."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("alexnet_core", "trainyard", "worker", "api")
ARROWS = {
    "alexnet_core": set(),
    "trainyard": {
        "alexnet_core.config",
        "alexnet_core.errors",
        "alexnet_core.layout",
        "alexnet_core.child_processes",
        "alexnet_core.regular_files",
        "alexnet_core.predictions.result_tables",
    },
    "worker": {"alexnet_core", "trainyard"},
    "api": {"alexnet_core", "trainyard"},
}
#: Within a package: what the modules of a folder may import beside their own folder, and beside the modules that stand
#: at the top of the package. The top itself imports no folder, but for what `TOP` names.
FOLDERS = {
    "alexnet_core.commands": {
        "data",
        "data.archives",
        "data.inspection",
        "data.intake",
        "data.layouts",
        "data.published",
        "network",
        "training",
        "trainer",
        "evaluation",
        "recipes",
        "export",
        "predictions",
    },
    "alexnet_core.data": set(),
    "alexnet_core.data.archives": {"data"},
    "alexnet_core.data.inspection": {"data"},
    "alexnet_core.data.layouts": {"data", "data.published"},
    "alexnet_core.data.intake": {"data", "data.archives", "data.inspection", "data.layouts"},
    "alexnet_core.data.published": {"data"},
    "alexnet_core.network": {"data"},
    "alexnet_core.evaluation": {"data", "data.inspection", "network", "inference"},
    "alexnet_core.insight": {"data", "data.inspection", "data.intake", "network", "evaluation"},
    "alexnet_core.training": {"data", "data.inspection", "network", "evaluation", "insight"},
    "alexnet_core.predictions": {"data", "data.intake", "data.layouts", "evaluation", "inference"},
    "alexnet_core.trainer": {"data", "training"},
    "alexnet_core.recipes": {"network"},
    "alexnet_core.inference": {"data", "network"},
    "alexnet_core.export": {"data.published", "network", "evaluation", "inference"},
    "trainyard.database": set(),
    "trainyard.database.migrations": {"database", "settings"},
    "trainyard.database.migrations.versions": set(),
    "trainyard.storage": {"database", "settings"},
    "trainyard.jobs": {"database", "storage"},
    "trainyard.scheduling": {"database", "jobs"},
    "trainyard.artifacts": {"database", "jobs", "scheduling", "storage", "settings"},
    "trainyard.artifacts.naming": {"artifacts", "database", "jobs"},
    "trainyard.access": {"database"},
    "trainyard.upkeep": {"database", "jobs", "scheduling", "artifacts", "storage", "settings"},
    "trainyard.launch": {
        "database",
        "scheduling",
        "artifacts",
        "storage",
        "upkeep",
        "client",
        "commands",
        "terminal",
        "settings",
    },
    "trainyard.commands": {"client", "commands.access", "settings", "terminal", "tracking"},
    "trainyard.commands.access": {"client", "commands", "terminal"},
    "trainyard.settings": set(),
    "trainyard.terminal": set(),
    "trainyard.tracking": {"client"},
    "trainyard.client": {"client.asynchronous", "client.synchronous", "terminal"},
    "trainyard.client.asynchronous": {"client"},
    "trainyard.client.synchronous": {"client"},
    "worker.beside": set(),
    "worker.datasets": {"beside"},
    "worker.machine": set(),
    "worker.predictions": {"beside", "datasets", "machine"},
    "api.previews": {"schemas.runs"},
    "api.routes": {
        "access",
        "downloads",
        "http",
        "insight",
        "observability",
        "previews",
        "reading",
        "schemas",
        "schemas.runs",
        "serving",
        "streams",
        "uploads",
    },
    "api.access": set(),
    "api.routes.access": {"access", "http", "routes", "schemas"},
    "api.routes.fine_tuning": {"downloads", "http", "reading", "routes", "schemas", "schemas.runs", "uploads"},
    "api.routes.insight": {"downloads", "http", "insight", "reading", "routes", "schemas"},
    "api.routes.measurements": {"http", "routes", "schemas.runs"},
    "api.routes.models": {"http", "open_inference", "routes", "schemas", "serving"},
    "api.routes.bulk": {"downloads", "http", "routes", "schemas", "streams"},
    "api.open_inference": set(),
    "api.downloads": set(),
    "api.http": {"access", "observability"},
    "api.observability": set(),
    "api.reading": {"schemas"},
    "api.schemas": set(),
    "api.schemas.runs": {"schemas"},
    "api.insight": {"downloads"},
    "api.remote": {"serving"},
    "api.serving": {"observability", "reading"},
    "api.streams": {"downloads", "reading", "schemas"},
    "api.uploads": {"http"},
}
#: Modules at the top of a package that are made from its folders, and the folders.
TOP = {
    "alexnet_core.__main__": {"commands"},
    "trainyard": {"client"},
    "trainyard.__main__": {"launch"},
    "trainyard.failpoints": {"settings"},
    "trainyard.tracing": {"settings"},
    "api.app": {
        "access",
        "routes.access",
        "http",
        "observability",
        "routes",
        "routes.bulk",
        "routes.fine_tuning",
        "routes.insight",
        "routes.measurements",
        "routes.models",
        "serving",
    },
    "api.engine_process": {"observability", "remote", "serving"},
    "api.supervisor": {"observability"},
    "api.web_process": {"http", "remote"},
    "api.services": {"access", "downloads", "insight", "observability", "reading", "serving", "streams", "uploads"},
    "api.series_reader": {"schemas.runs"},
    "api.submission": {"reading", "schemas"},
    "api.bulk_submission": {"schemas"},
    "worker.__main__": {"machine"},
    "worker.process": {"machine"},
    "worker.station": {"beside", "datasets", "machine", "predictions"},
    "worker.supervisor": {"datasets"},
    "worker.trainer_spec": {"datasets"},
}
MODULES_IN_A_FOLDER = 16  #: at the most: then it gets a folder within
GROWING = {"trainyard/database/migrations/versions"}  #: a history in the order of its numbers, which nothing leaves
GENERATED = {"trainyard/client/models.py"}  #: from the API's description; nobody reads it from the start to the end
READS_ENVIRONMENT = {
    "alexnet_core/child_processes.py",  # hands a scrubbed environment to children
    "trainyard/settings/yard_settings.py",
    "alexnet_core/cpu_speed.py",  # reads where caches are kept, and what CPU libraries may use
    "alexnet_core/commands/intake.py",  # reads what it says of the C library's memory
    "alexnet_core/commands/predict_many.py",  # reads what it says of the C library's memory
    "alexnet_core/commands/prepare.py",  # reads what it says of the C library's memory
    "alexnet_core/commands/train.py",  # hands torchrun's variables on
    "api/bootstrap.py",  # sets OMP_WAIT_POLICY for its own process
    "api/supervisor.py",  # hands its own environment on
    "api/observability/process_files.py",  # reads where prometheus-client keeps the counts of several processes
    "worker/machine/devices.py",  # reads which GPUs it may see
    "worker/machine/health.py",  # reads where the data folder is, without loading the settings
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


def module_name(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")


NAMES = {module_name(path): path for path in MODULES}


def modules_imported_by(path: Path) -> set[str]:
    """The modules of ours that one imports; `from folder import name` means the folder where `name` is no module."""
    found = {name if name in NAMES else name.rpartition(".")[0] for name in imports_of(path)}
    return (found & set(NAMES)) - {module_name(path)}


def folder_of(name: str) -> str:
    """The folder that a module lies in, with dots."""
    return module_name(NAMES[name].parent)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_keeps_the_rules(path: Path) -> None:
    name = path.relative_to(ROOT).as_posix()
    package = name.split("/")[0]
    for imported in imports_of(path):
        if imported.split(".")[0] in set(PACKAGES) - {package}:
            allowed = any(imported == arrow or imported.startswith(arrow + ".") for arrow in ARROWS[package])
            assert allowed, f"{name} must not import {imported}"
    assert path.stem not in {"utils", "helpers", "common", "manager"}
    assert name in GENERATED or len(path.read_text().splitlines()) <= 400, f"{name} is too long"
    if name not in READS_ENVIRONMENT:
        assert not {"os.environ", "os.getenv"} & _attributes(path), f"{name} reads the environment"


@pytest.mark.parametrize("name", NAMES)
def test_a_module_imports_only_folders_that_lie_below_its_own(name: str) -> None:
    package, folder = name.split(".")[0], folder_of(name)
    allowed = FOLDERS.get(folder, TOP.get(name, set()))
    for imported in modules_imported_by(NAMES[name]):
        target = folder_of(imported)
        if target in {folder, package} or imported.split(".")[0] != package:
            continue
        assert target.removeprefix(package + ".") in allowed, f"{name} must not import {imported}"


def test_the_rules_name_what_is_there_and_nothing_else() -> None:
    """Otherwise a folder that was renamed would pass unseen."""
    assert set(FOLDERS) == {folder_of(name) for name in NAMES} - set(PACKAGES)
    assert set(TOP) <= set(NAMES)
    used: dict[str, set[str]] = {}
    for name in NAMES:
        package, place = name.split(".")[0], name if name in TOP else folder_of(name)
        others = {folder_of(imported) for imported in modules_imported_by(NAMES[name])} - {folder_of(name), package}
        used.setdefault(place, set()).update(o.removeprefix(package + ".") for o in others if o.startswith(package))
    for place, allowed in (FOLDERS | TOP).items():
        assert allowed == used[place], f"{place} is allowed what it does not import"


def test_no_module_imports_itself_by_a_detour() -> None:
    graph = {name: modules_imported_by(path) for name, path in NAMES.items()}
    TopologicalSorter(graph).prepare()  # raises CycleError


def test_a_folder_holds_what_a_reader_can_survey() -> None:
    for folder in {path.parent for path in MODULES} - {ROOT / name for name in GROWING}:
        names = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
        assert len(names) <= MODULES_IN_A_FOLDER, f"{folder}: {names}"


def test_nothing_unpickles() -> None:
    """A pickle runs what its writer wants; `alexnet_core...pickles` reads opcodes without acting on them."""
    for path in MODULES:
        assert "torch.load" not in _attributes(path), path
        modules = {name.split(".")[0] for name in imports_of(path)}
        assert not {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"} & modules, path
        text = path.read_text()
        assert not re.search(r"weights_only\s*=\s*False|allow_pickle\s*=\s*True", text), path


def _attributes(path: Path) -> set[str]:
    nodes = ast.walk(ast.parse(path.read_text()))
    return {f"{n.value.id}.{n.attr}" for n in nodes if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)}


def importable(package: str) -> list[str]:
    names = [name for name in NAMES if name.split(".")[0] == package and not name.endswith("__main__")]
    assert len(names) > 10, "an empty list would import nothing and prove nothing"
    return names


def loaded_after(statement: str) -> set[str]:
    code = f"import sys\n{statement}\nprint(*sorted({{'torch', 'fastapi'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_database_and_the_command_line_pulls_in_neither_torch_nor_fastapi() -> None:
    names = [name for name in importable("trainyard") if "migrations" not in name]
    assert loaded_after(f"import {', '.join(names)}") == set()


@pytest.mark.parametrize("package", ["worker", "api"])
def test_importing_worker_or_api_does_not_pull_in_torch(package: str) -> None:
    names = importable(package)
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
