"""`trainyard export`: what ends it with which status. The exports themselves: tests/trainyard/tracking."""

from __future__ import annotations

import json
import os

import pytest

from tests.api.served import Served
from tests.trainyard.commands.conftest import Run

NOBODY = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def _no_trackers_of_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(name)


def test_commands_end_with_the_documented_status(served: Served, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    served.add_job()
    without = run("export", "mlflow")
    assert (without.exit_code, "MLFLOW_TRACKING_URI" in without.stderr) == (2, True)
    wrong = run("export", "mlflow", "--to", "sqlite:///x.db")
    assert (wrong.exit_code, "sqlite:///x.db" in wrong.stderr) == (2, True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOBODY)
    away = run("export", "mlflow", "--json")
    error = json.loads(away.stderr)["error"]
    assert (away.exit_code, error["code"]) == (1, "mlflow_unreachable")
    assert NOBODY in error["message"]
    nameless = run("export", "mlflow", "job_none")
    assert (nameless.exit_code, "job_not_found" in nameless.stderr) == (1, True)
