"""A served yard with a job that has ended, and tracking servers for its exports."""

from __future__ import annotations

import fcntl
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from alexnet_core.messages import AnyReport, EpochEnd
from tests.api.conftest import database, runtime, serve, served, settings
from tests.api.routes.measurements.test_metrics import interval
from tests.api.routes.test_job_evaluation import write
from tests.api.served import Served, wait_until
from tests.own_environment import make_environment
from tests.trainyard.commands.conftest import _no_login_of_this_user, run
from trainyard.scheduling import leases
from worker.report_writer import write_reports

__all__ = ["_no_login_of_this_user", "database", "run", "runtime", "serve", "served", "settings"]

#: A tracking server needs no more; the whole `mlflow` has five times as many bytes and another version of pyarrow.
MLFLOW = ("mlflow-skinny>=3.17,<4", "aiohttp", "alembic", "cryptography", "flask", "flask-cors", "graphene", "huey")
#: What its login needs besides.
MLFLOW_LOGIN = ("flask-wtf>=1.2,<2",)
TEST = {"loss": 0.4, "top1": 0.75, "top5": 1.0, "num_images": 4, "chosen_on": "validation"}


def train(served: Served, job_id: str, *epochs: int) -> None:
    """Let a job write the points of epochs of ten steps, and a checkpoint for each."""
    reports: list[AnyReport] = []
    for epoch in epochs:
        reports += [interval(step, 10 / step) for step in (10 * epoch - 5, 10 * epoch)]
        reports.append(
            EpochEnd(step=10 * epoch, epoch=epoch, metrics={"train_loss": 1 / epoch, "val_top1": epoch / 10})
        )
    with served.database.writing() as session:
        write_reports(session, leases.Lease(job_id, 1, "wrk_test"), reports, keep_latest=9, ttl_s=60)
    for epoch in epochs:
        served.add_checkpoint(job_id, epoch, keep_latest=9)


def end(served: Served, job_id: str) -> None:
    """Let a job succeed, with results on the test images and an evaluation."""
    write(served, job_id, "begun", "done")
    with served.database.writing() as session:
        ending = leases.Ending(succeeded=True, test=TEST, weights_sha256="ab" * 32)
        leases.end_attempt(session, leases.Lease(job_id, 1, "wrk_test"), ending, first_backoff_s=1)


@pytest.fixture(autouse=True)
def _no_trackers_of_this_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "WANDB_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def mlflow_programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with MLflow, which is made once for all processes of a test run."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # each process of the run has a folder of its own in it
    environment = shared / "mlflow"
    made = environment / "made"
    with (shared / "mlflow.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            make_environment(environment, *MLFLOW, *MLFLOW_LOGIN)
            made.touch()
    return environment / "bin"


@pytest.fixture(scope="session")
def mlflow(mlflow_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real tracking server."""
    with run_mlflow(mlflow_programs, tmp_path_factory.mktemp("mlflow-server")) as address:
        yield address


@contextmanager
def run_mlflow(programs: Path, folder: Path, *options: str, **environment: str) -> Iterator[str]:
    """Yield the address of a tracking server with its data in a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(programs / "mlflow"), "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder}/runs.db", "--artifacts-destination", str(folder / "files")]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [*command, *options],
            cwd=folder,
            stdout=log,
            stderr=log,
            env=dict(os.environ) | quiet | environment,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: process.poll() is not None or _is_up(address), timeout_s=120)
        assert process.poll() is None, (folder / "log").read_text()
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, 15)
            process.wait(timeout=30)
        shutil.rmtree(folder)


def _is_up(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health", trust_env=False).is_success
    except httpx.TransportError:
        time.sleep(0.2)
        return False
