from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from alexnet_core import errors
from alexnet_core.errors import CoreError, ImageError
from tests.test_architecture import NAMES, ROOT, modules_imported_by
from trainyard.jobs.failures import FAILURES, backoff_s

#: Where a job's code comes from in the core: its training, and the preparation of its dataset.
ORIGINS = ("alexnet_core.trainer.child", "alexnet_core.data.published.builtin", "alexnet_core.commands.intake")


def modules_below(*names: str) -> set[str]:
    """The modules that some import, and what those import, and so on."""
    todo, found = list(names), set[str]()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += modules_imported_by(NAMES[name])
    return found


def made_in(path: Path) -> Iterator[str]:
    """The names of the classes and functions that a module calls."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")


def codes_of_the_core() -> set[str]:
    """Those of an image are not among them: a file with an unusable image is left out, and the others are taken."""
    kinds = {
        name: kind
        for name, kind in inspect.getmembers(errors, inspect.isclass)
        if issubclass(kind, CoreError) and not issubclass(kind, ImageError)
    }
    made = {name for module in modules_below(*ORIGINS) for name in made_in(NAMES[module])}
    return {kinds[name].code for name in made & set(kinds)}


def codes_of_the_worker() -> set[str]:
    """Codes that stand as a text in the worker or the yard: in an `Ending`, a `PreparationFailed`, a rule."""
    paths = [*(ROOT / "worker").rglob("*.py"), *(ROOT / "trainyard").rglob("*.py")]
    texts = " ".join(
        path.read_text() for path in paths if path.name != "failures.py" and path.parent.name != "versions"
    )
    return {code for code in FAILURES if re.search(rf"""["']{code}["']|\b{code.upper()}\b""", texts)}


def test_every_code_that_a_job_can_reach_has_a_row_and_no_other_has() -> None:
    core = codes_of_the_core()
    assert {"diverged", "out_of_memory", "dataset_unavailable", "config_invalid"} <= core
    assert core - set(FAILURES) == set(), "a job can end with them"
    assert set(FAILURES) - core - codes_of_the_worker() == set(), "no job can end with them"


def test_the_wait_doubles_up_to_five_minutes() -> None:
    assert [backoff_s(n, 2) for n in (0, 1, 2, 3, 99)] == [2, 2, 4, 8, 300]
