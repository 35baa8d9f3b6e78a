"""A yard whose every process can be killed, frozen and started again by itself."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from pathlib import Path

from redis import Redis
from sqlalchemy import select

from tests.chaos.history import Event
from tests.processes import children_of
from trainyard.database import Database
from trainyard.queue_server import QueueServer, free_port
from trainyard.schema import migrate
from trainyard.settings import Settings, child_environment
from trainyard.states import JobState
from trainyard.tables import Job, JobEvent, Worker

TTL_S, REAPER_S = 4.0, 1.0


class ChaosYard:
    """Queue server, API and workers, each a child of the test. `postgres`: URL and pid of a server, else SQLite."""

    def __init__(self, folder: Path, *, workers: int = 2, postgres: tuple[str, int] | None = None) -> None:
        self.folder, self.postgres = folder, postgres
        (folder / "logs").mkdir(parents=True)
        self._hook = folder / "hook"
        self._hook.mkdir()
        shutil.copyfile(Path(__file__).with_name("step_log.py"), self._hook / "sitecustomize.py")
        self.queue = QueueServer(folder)
        times = {"tick_s": 0.25, "idle_poll_s": 2, "relay_s": 0.5, "rering_s": 2, "hang_s": 15, "backoff_s": 0.2}
        self.settings = Settings(
            data_dir=folder, port=free_port(), redis_url=self.queue.url, trainer_threads=1, serving_threads=1,
            lease_ttl_s=TTL_S, reaper_s=REAPER_S, recovery_every_s=0.5, max_failures=100, garbage_grace_s=5,
            database_url=postgres and postgres[0], **times,
        )  # fmt: skip
        self.books = Database(self.settings.sqlalchemy_url)
        migrate(self.books)
        self.queue.start()
        self.queue.wait_until_it_answers()
        self.names = ["api", *[f"worker-{index}" for index in range(workers)]]
        self.processes = {name: self._start(name) for name in self.names}
        self.url = f"http://127.0.0.1:{self.settings.port}"

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        env = child_environment(self.settings) | {"PYTHONPATH": str(self._hook)}
        command = [sys.executable, "-m", name.partition("-")[0], "--die-with-parent", str(os.getpid())]
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )

    def tick(self) -> None:
        """Start again what has died."""
        assert self.queue.process is not None
        if self.queue.process.poll() is not None:
            self.queue.start()
        for name, process in self.processes.items():
            if process.poll() is not None:
                self.processes[name] = self._start(name)

    # --- faults ---

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def kill_queue(self) -> None:
        assert self.queue.process is not None
        self.queue.process.kill()
        self.queue.process.wait()

    def kill_trainer(self, name: str) -> bool:
        """SIGKILL to every trainer of a worker, the waiting one included."""
        pids = [pid for pid in children_of(self.processes[name].pid) if _is_trainer(pid)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return bool(pids)

    def send(self, name: str, number: int) -> None:
        process = self.queue.process if name == "queue" else self.processes[name]
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)

    def empty_queue(self) -> None:
        with contextlib.suppress(Exception), Redis.from_url(self.queue.url, socket_timeout=1) as redis:
            redis.flushall()

    def freeze_books(self, seconds: float) -> None:
        """SQLite: somebody holds the write lock. PostgreSQL: the server's processes stop."""
        threading.Thread(target=self._freeze_books, args=(seconds,), daemon=True).start()

    def _freeze_books(self, seconds: float) -> None:
        if self.postgres is None:
            with contextlib.suppress(Exception), self.books.engine.connect() as connection:
                connection.exec_driver_sql("BEGIN EXCLUSIVE")
                time.sleep(seconds)
                connection.rollback()
            return
        pids = [self.postgres[1], *children_of(self.postgres[1])]
        for pid in pids:
            _signal(pid, signal.SIGSTOP)
        time.sleep(seconds)
        for pid in pids:
            _signal(pid, signal.SIGCONT)

    # --- what is known ---

    def leases_of(self, name: str) -> list[tuple[str, int]]:
        """Jobs that a worker process holds."""
        query = select(Job.id, Job.lease_epoch).join(Worker, Worker.id == Job.lease_owner)
        with self.books.reading() as session:
            held = query.where(Worker.pid == self.processes[name].pid, Job.state == JobState.RUNNING.value)
            return [(job_id, epoch) for job_id, epoch in session.execute(held)]

    def read_events(self) -> dict[str, list[Event]]:
        events: dict[str, list[Event]] = defaultdict(list)
        with self.books.reading() as session:
            for row in session.scalars(select(JobEvent).order_by(JobEvent.job_id, JobEvent.seq)):
                told = (row.seq, row.at, row.type, row.state, row.reason, row.lease_epoch, row.worker_id, row.data)
                events[row.job_id].append(Event(*told))
        return events

    def read_steps(self) -> dict[str, dict[int, int]]:
        """Job -> attempt -> steps made, as the trainers wrote them down."""
        made: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        path = self._hook / "steps.log"
        for line in path.read_text().splitlines() if path.exists() else []:
            job_id, epoch, _step = line.split()
            made[job_id][int(epoch)] += 1
        return made

    def stop(self) -> None:
        for process in [*self.processes.values(), self.queue.process]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.books.close()


def _is_trainer(pid: int) -> bool:
    try:
        return b"trainer" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
