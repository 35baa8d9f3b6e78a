"""The processes of a yard take the option that binds them to the process that starts them."""

from __future__ import annotations

import importlib

import pytest
from typer.testing import CliRunner

from trainyard.parent_option import OPTION


@pytest.mark.parametrize("module", ["api.__main__", "worker.process"])
def test_a_process_of_a_yard_is_bound_to_its_parent_before_all_else(
    monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    parents = []

    def bind(parent_pid: int) -> None:
        parents.append(parent_pid)
        raise SystemExit(3)

    monkeypatch.setattr(f"{module}.die_with_parent", bind)
    program = importlib.import_module(module).app
    assert CliRunner().invoke(program, [OPTION, "17"]).exit_code == 3
    assert parents == [17]
