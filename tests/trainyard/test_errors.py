"""One tree of errors: drawn as it is, one code with one status, and nothing beside it."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator

import pytest

import api
import trainyard
import worker
from trainyard import errors, export_errors, insight_errors, serving_errors, upload_errors
from trainyard.access import refusals
from trainyard.errors import ServiceError

MODULES = (errors, upload_errors, insight_errors, export_errors, serving_errors, refusals)
#: What the contract gives two statuses: see the head of `trainyard.errors`.
TWO_STATUSES = {"no_checkpoint": {409, 503}}


def tree(kind: type[ServiceError]) -> Iterator[type[ServiceError]]:
    yield kind
    for child in kind.__subclasses__():
        yield from tree(child)


@pytest.fixture(scope="module", autouse=True)
def everything_is_imported() -> None:
    for package in (trainyard, api, worker):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__") and ".migrations." not in module.name:
                importlib.import_module(module.name)


def ours() -> list[type[ServiceError]]:
    return [kind for kind in tree(ServiceError) if not kind.__module__.startswith("tests.")]


def test_every_error_is_defined_in_a_module_of_errors() -> None:
    assert len(ours()) > 20
    assert {kind.__module__ for kind in ours()} == {module.__name__ for module in MODULES}


def test_a_code_has_one_status_and_one_class() -> None:
    kinds: dict[str, list[type[ServiceError]]] = {}
    for kind in ours():
        kinds.setdefault(kind.code, []).append(kind)
    for code, found in kinds.items():
        statuses = {kind.status for kind in found}
        assert statuses == TWO_STATUSES.get(code, {found[0].status}), code
        assert len(found) == len(statuses), f"{code} is the code of {found}"


def test_the_tree_is_drawn_as_it_is() -> None:
    found = []
    for module in MODULES:
        drawn = re.findall(r"^([│├└─ ]*)([A-Z]\w+)(?: (\d{3}))?(?: +([a-z_]+))?$", module.__doc__ or "", re.M)
        path: list[str] = []
        for indent, name, status, code in drawn:
            depth = len(indent) // 4
            path[depth:] = [name]
            if code:  # else it is only named as the parent of others, and drawn in the other module
                found.append((name, path[depth - 1] if depth else "Exception", status, code))
    real = []
    for kind in ours():
        parent = kind.__bases__[0]
        inherits = getattr(parent, "status", None) == kind.status
        real.append((kind.__name__, parent.__name__, "" if inherits else str(kind.status), kind.code))
    assert sorted(found) == sorted(real)


def test_a_message_is_the_class_s_own_unless_one_is_given() -> None:
    assert ServiceError().message.startswith("Something went wrong on our side.")
    assert errors.JobNotFound("no job_1").message == "no job_1"
    assert (errors.Unavailable().retry_after_s, errors.NotFound().retry_after_s) == (1, None)
