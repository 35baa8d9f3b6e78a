"""Workers as real processes around one queue server, with the database and the reconciler in the test's own process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from redis import Redis
from sqlalchemy import select

from alexnet_core.child_processes import die_with_parent
from alexnet_core.data.published import builtin
from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.layout import pack_key
from alexnet_core.recipes import resolve
from tests.integration.running import PATIENCE_S
from trainyard.artifacts import datasets
from trainyard.database import schema
from trainyard.database.connection import Database, read_clock
from trainyard.database.tables import Job, JobEvent, Worker
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.launch.queue_server import QueueServer, free_port
from trainyard.scheduling.queue import CeleryWaker
from trainyard.settings import Settings
from trainyard.storage.opening import open_storage
from trainyard.upkeep.reconciler import Reconciler

SLOW = {"image_px": 64, "batch_size": 64, "epochs": 50}  # hours: it ends when the test says so
FAST = {"epochs": 1}
NEVER_S = 3600.0

Gather = Callable[..., "Fleet"]  #: starts one with these settings


class Fleet:
    """Everything but the API. `settings` go to the workers and to the reconciler."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.settings = Settings(data_dir=folder, trainer_threads=1, spare_trainer=False, **settings)
        folder.mkdir(parents=True, exist_ok=True)
        self.database = Database(self.settings.sqlalchemy_url)
        schema.migrate(self.database)
        datasets.register_builtins(self.database, {"digits": BUILTINS["digits"].facts})
        if self.settings.storage_url is None:
            self._add_digits()
        self.queue = QueueServer(folder)
        self.queue.start()
        self.queue.wait_until_it_answers()
        self.workers: list[subprocess.Popen[bytes]] = []
        self.others: list[subprocess.Popen[bytes]] = []
        self.reconciler = Reconciler(
            self.settings, self.database, CeleryWaker(self.queue.url), open_storage(self.settings)
        )
        self.reconciler.start()

    def _add_digits(self) -> None:
        """Make the pack that the first worker would make, in a process and at the time of its first job."""
        dataset_id = datasets.builtin_id("digits")
        pack = builtin.prepare("digits", source_dir=None, target_dir=self.folder / pack_key(dataset_id))
        size_bytes = sum(file.stat().st_size for file in pack.path.iterdir())
        facts = pack.facts.model_dump(mode="json")
        with self.database.writing() as session:
            datasets.mark_ready(session, dataset_id, digest=pack.digest, facts=facts, size_bytes=size_bytes)

    def redis(self) -> Redis:
        return Redis.from_url(self.queue.url)

    def start_worker(self, *, clock: str | None = None) -> subprocess.Popen[bytes]:
        """A worker that is in the database. `clock`: how wrong its clock is, as `+2h`."""
        command = [sys.executable, "-m", "worker", "--die-with-parent", str(os.getpid())]
        process = self._start(command, self.log_path(len(self.workers)), clock)
        self.workers.append(process)
        wait_for(lambda: self.worker_id(process) or process.poll() is not None)
        assert process.poll() is None, self.log(process)
        return process

    def start_reconciler(self, *, clock: str | None = None) -> subprocess.Popen[bytes]:
        """One more, in a process of its own."""
        command = [sys.executable, "-m", "trainyard", "reconcile"]
        self.others.append(self._start(command, self.folder / "logs" / f"reconciler-{len(self.others)}.log", clock))
        return self.others[-1]

    def start_api(self) -> str:
        """The URL of one more API, which answers."""
        port, index = free_port(), len(self.others)
        command = [sys.executable, "-m", "api", "--die-with-parent", str(os.getpid())]
        log_path = self.folder / "logs" / f"api-{index}.log"
        process = self._start(command, log_path, None, TRAINYARD_PORT=str(port))
        self.others.append(process)
        url = f"http://127.0.0.1:{port}"
        wait_for(lambda: _answers(f"{url}/readyz") or process.poll() is not None)
        assert process.poll() is None, log_path.read_text()
        return url

    def _start(self, command: list[str], log_path: Path, clock: str | None, **settings: str) -> subprocess.Popen[bytes]:
        env = {key: value for key, value in os.environ.items() if not key.startswith("TRAINYARD_")}
        env |= self.settings.as_environment() | {"TRAINYARD_REDIS_URL": self.queue.url} | settings
        if clock is not None:
            env |= {"LD_PRELOAD": str(find_faketime()), "FAKETIME": clock, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        parent = os.getpid()
        with log_path.open("wb") as log:
            return subprocess.Popen(
                command, env=env, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=lambda: die_with_parent(parent),
            )  # fmt: skip

    def log_path(self, index: int) -> Path:
        return self.folder / "logs" / f"worker-{index}.log"

    def log(self, process: subprocess.Popen[bytes]) -> str:
        return self.log_path(self.workers.index(process)).read_text()

    def worker_id(self, process: subprocess.Popen[bytes]) -> str | None:
        with self.database.reading() as session:
            return session.scalar(select(Worker.id).where(Worker.pid == process.pid))

    def worker(self, process: subprocess.Popen[bytes]) -> Worker:
        with self.database.reading() as session:
            return session.scalars(select(Worker).where(Worker.pid == process.pid)).one()

    def submit(self, overrides: dict[str, Any], *, seed: int = 1, dataset_name: str = "digits") -> str:
        with self.database.writing() as session:
            dataset = datasets.get_dataset(session, "local", dataset_name)
            recipe, config = resolve(None, overrides, datasets.facts_of(dataset))
            new = NewJob(
                recipe=recipe, config=config.model_dump(mode="json"), seed=seed,
                max_failures=self.settings.max_failures,
            )  # fmt: skip
            job_id = jobs.submit(session, "local", dataset, new).id
        self.reconciler.wake()
        return job_id

    def job(self, job_id: str) -> Job:
        with self.database.reading() as session:
            return session.scalars(select(Job).where(Job.id == job_id)).one()

    def events(self, job_id: str) -> list[JobEvent]:
        with self.database.reading() as session:
            return list(session.scalars(select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq)))

    def has_event(self, job_id: str, name: str, lease_epoch: int) -> bool:
        """Whether an attempt has an event of that type or reason."""
        return any(name in {it.type, it.reason} and it.lease_epoch == lease_epoch for it in self.events(job_id))

    def now(self) -> float:
        """By the database's clock."""
        with self.database.reading() as session:
            return read_clock(session)

    def kill_queue(self) -> None:
        assert self.queue.process is not None
        self.queue.process.kill()
        self.queue.process.wait()

    @contextmanager
    def frozen_queue(self) -> Iterator[None]:
        assert self.queue.process is not None
        self.queue.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.queue.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        for process in [*self.workers, *self.others]:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()  # its trainers die with it
                process.wait()
        if self.queue.process is not None and self.queue.process.poll() is None:
            self.kill_queue()
        self.reconciler.stop()
        self.database.close()


def make_tables(settings: Settings) -> None:
    """As `trainyard migrate` does, without another process: whose folder it is must exist."""
    database = Database(settings.sqlalchemy_url)
    schema.migrate(database)
    database.close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=20).status_code == 200
    except httpx.TransportError:
        return False


def find_faketime() -> Path | None:
    """The library that gives a process a wrong clock (Debian: `apt-get install faketime`)."""
    return next(iter(sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))), None)


def wait_for(look: Callable[[], Any], timeout_s: float = PATIENCE_S) -> Any:
    deadline = time.monotonic() + timeout_s
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)
    return found
