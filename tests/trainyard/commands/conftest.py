"""A real API in this process, and the commands that talk to it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from alexnet_core.messages import EpochEnd
from tests.api.conftest import database, runtime, serve, served, settings
from tests.api.routes.measurements.test_metrics import interval
from tests.api.served import Served
from trainyard.launch import cli
from trainyard.scheduling import leases
from worker.report_writer import write_reports

__all__ = ["database", "runtime", "serve", "served", "settings"]

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def _no_login_of_this_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture
def run(served: Served, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command against the served yard."""
    monkeypatch.setenv("TRAINYARD_URL", served.url)

    def run_command(*args: str, typed: str | None = None) -> Result:
        return CliRunner().invoke(cli.app, list(args), input=typed)

    return run_command


@pytest.fixture
def trained(served: Served) -> str:
    """A job with three epochs and two checkpoints."""
    job_id = served.add_job()
    reports = [
        report
        for epoch, (loss, top1) in enumerate([(2.0, 0.25), (1.0, 0.5), (0.5, 0.75)], start=1)
        for report in (
            interval(10 * epoch, loss),
            EpochEnd(step=10 * epoch, epoch=epoch, metrics={"train_loss": loss, "val_top1": top1}),
        )
    ]
    with served.database.writing() as session:
        write_reports(session, leases.Lease(job_id, 1, "wrk_test"), reports, keep_latest=9, ttl_s=60)
    for epoch in (1, 2):
        served.add_checkpoint(job_id, epoch, keep_latest=9)
    return job_id
