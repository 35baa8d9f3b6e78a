from __future__ import annotations

import inspect
from typing import Any

import pytest

from trainyard.jobs.failures import FAILURES, backoff_s


def test_every_error_code_of_the_core_has_a_row() -> None:
    errors = pytest.importorskip("alexnet_core.errors")
    classes: list[type[Any]] = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
    trees = [kind for kind in classes if issubclass(kind, errors.CoreError)]
    codes = {c.code for c in trees if isinstance(getattr(c, "code", None), str)}
    assert codes <= set(FAILURES)


def test_the_wait_doubles_up_to_five_minutes() -> None:
    assert [backoff_s(n, 2) for n in (0, 1, 2, 3, 99)] == [2, 2, 4, 8, 300]
