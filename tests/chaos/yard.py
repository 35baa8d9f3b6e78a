"""A yard in which every process can be killed, frozen and started again separately."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis import Redis
from sqlalchemy import select

from tests.chaos.history import Event
from tests.chaos.store import Store
from tests.object_store import AWS
from tests.postgres import crowded, frozen, locked, read_only
from tests.processes import children_of
from trainyard.artifacts.examination import Condition, examine
from trainyard.database.connection import Database
from trainyard.database.event_tables import YardEvent
from trainyard.database.schema import migrate
from trainyard.database.tables import Checkpoint, Job, JobEvent, JobMetric, Worker
from trainyard.errors import DatabaseUnavailable
from trainyard.launch.queue_server import QueueServer, free_port
from trainyard.settings import Settings, child_environment
from trainyard.states import CheckpointStatus, JobState, WorkKind
from trainyard.storage.opening import open_storage

TTL_S, REAPER_S = 4.0, 1.0
RECOVERY_EVERY_S = 0.5
LEFTOVER_S = 30.0  # longer than anything is frozen
STORAGE_TIMEOUT_S = 3.0
COMMITTED = Checkpoint.status == CheckpointStatus.COMMITTED
RECOVERY_WITHIN_S = TTL_S + REAPER_S + 5  # from a worker's death to the next claim of its job, where a peer is free


@dataclass(frozen=True)
class Standing:
    """The state of a worker process according to the database."""

    worker_id: str | None  #: None: it has not entered itself yet
    held: list[tuple[str, int]]  #: its jobs, each with its lease_epoch


class ChaosYard:
    """Queue server, API and workers, each a child of the test.

    Args:
        folder: for everything.
        workers: how many.
        postgres: URL and pid of a server. None: SQLite.
        has_store: with an object store, each API and worker has a data folder of its own; without, they share one.
    """

    def __init__(
        self, folder: Path, *, workers: int = 2, postgres: tuple[str, int] | None = None, has_store: bool = False
    ) -> None:
        self.folder, self.postgres = folder, postgres
        (folder / "logs").mkdir(parents=True)
        self._hook = folder / "hook"
        self._hook.mkdir()
        shutil.copyfile(Path(__file__).with_name("step_log.py"), self._hook / "sitecustomize.py")
        self.queue = QueueServer(folder)
        times: dict[str, Any] = {
            "tick_s": 0.25,
            "idle_poll_s": 2,
            "relay_s": 0.5,
            "wake_again_s": 2,
            "hang_s": 60,
            "backoff_s": 0.2,
        }
        self.store = Store(folder / "objects") if has_store else None
        if self.store is not None:
            times |= self.store.settings() | {"storage_timeout_s": STORAGE_TIMEOUT_S}
        self.settings = Settings(
            data_dir=folder, port=free_port(), redis_url=self.queue.url, trainer_threads=1, serving_threads=1,
            lease_ttl_s=TTL_S, reaper_s=REAPER_S, recovery_every_s=RECOVERY_EVERY_S, max_failures=100,
            garbage_grace_s=5, leftover_s=LEFTOVER_S, database_url=postgres[0] if postgres else f"sqlite:///{folder.absolute()}/trainyard.db",
            testing=True, prediction_segment_rows=100,
            failpoints="intake_packing_8=sleep:0.5,predict_row_150=sleep:0.5,predict_row_950=sleep:0.5", **times,
        )  # fmt: skip
        self.storage = open_storage(self.settings)  #: not through the store's gate
        self.database = Database(self.settings.sqlalchemy_url)
        migrate(self.database)
        self.queue.start()
        self.queue.wait_until_it_answers()
        self.names = ["api", *[f"worker-{index}" for index in range(workers)]]
        self.processes = {name: self._start(name) for name in self.names}
        self.url = f"http://127.0.0.1:{self.settings.port}"
        self._freezes: list[threading.Thread] = []
        self._database_turn = threading.Lock()  # one of them at a time

    def _start(self, name: str) -> subprocess.Popen[bytes]:
        env = child_environment(self.settings) | {"PYTHONPATH": str(self._hook)}
        if self.store is not None:
            env |= AWS | {"TRAINYARD_STORAGE_ENDPOINT": self.store.gate.url}
            env |= {"TRAINYARD_DATA_DIR": str(self.machine(name))}
        command = [sys.executable, "-m", name.partition("-")[0], "--die-with-parent", str(os.getpid())]
        with (self.folder / "logs" / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
            )

    def machine(self, name: str) -> Path:
        """Return the data folder of a process."""
        return self.folder if self.store is None else self.folder / "machines" / name

    def tick(self) -> None:
        """Start again what has died."""
        if self.store is not None:
            self.store.tick()
        assert self.queue.process is not None
        if self.queue.process.poll() is not None:
            self.queue.start()
        for name, process in self.processes.items():
            if process.poll() is not None:
                self.processes[name] = self._start(name)

    # --- to break it ---

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def kill_queue(self) -> None:
        assert self.queue.process is not None
        self.queue.process.kill()
        self.queue.process.wait()

    def trainers_of(self, name: str) -> list[int]:
        """Return the trainers of a worker, including the spare."""
        return [pid for pid in children_of(self.processes[name].pid) if _runs(pid, b"trainer")]

    def intakes_of(self, name: str) -> list[int]:
        """Return the children of a worker that take in datasets."""
        return [pid for pid in children_of(self.processes[name].pid) if _runs(pid, b"intake")]

    def predictors_of(self, name: str) -> list[int]:
        """Return the children of a worker that predict many images."""
        return [pid for pid in children_of(self.processes[name].pid) if _runs(pid, b"predict-many")]

    def signal(self, pids: Iterable[int], number: int) -> None:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def pid_of(self, name: str) -> int:
        process = self.queue.process if name == "queue" else self.processes[name]
        assert process is not None
        return process.pid

    def empty_queue(self) -> None:
        with contextlib.suppress(Exception), Redis.from_url(self.queue.url, socket_timeout=1) as redis:
            redis.flushall()

    def freeze_database(self, seconds: float) -> None:
        """Freeze the database. SQLite: someone holds the write lock. PostgreSQL: the server's processes stop."""
        self._in_background(self._freeze_database, seconds)

    def forbid_writes(self, seconds: float) -> None:
        """Make PostgreSQL refuse writes, as a standby does."""
        self._in_background(self._harm_server, read_only, seconds)

    def lock_jobs(self, seconds: float) -> None:
        """Lock a table of PostgreSQL, while nobody waits long for a lock."""
        self._in_background(self._harm_server, locked, seconds)

    def take_connections(self, seconds: float) -> None:
        """Make PostgreSQL close all connections and accept no more."""
        self._in_background(self._harm_server, crowded, seconds)

    def _in_background(self, harm: Callable[..., None], *arguments: object) -> None:
        self._freezes.append(threading.Thread(target=harm, args=arguments, daemon=True))
        self._freezes[-1].start()

    def _harm_server(self, harm: Callable[[str], AbstractContextManager[object]], seconds: float) -> None:
        assert self.postgres is not None
        with self._database_turn, harm(self.postgres[0]):
            time.sleep(seconds)

    def _freeze_database(self, seconds: float) -> None:
        if self.postgres is None:
            with contextlib.suppress(DatabaseUnavailable), self.database.writing():
                time.sleep(seconds)
            return
        with self._database_turn, frozen(self.postgres[1]):
            time.sleep(seconds)

    # --- what is known ---

    def list_folders(self, key: str) -> set[str]:
        """Return the names of what is stored below a key, complete or not."""
        if self.store is None:
            return {path.name for path in (self.folder / key).iterdir() if path.is_dir()}
        return self.store.list_folders(key)

    def judge_checkpoints(self) -> list[str]:
        """Compare every checkpoint in the database with its files, in the store itself."""
        with self.database.reading() as session:
            ids = list(session.scalars(select(Checkpoint.id).where(COMMITTED).order_by(Checkpoint.id)))
        return [
            f"12 whole checkpoints: {checkpoint_id} is {found}"
            for checkpoint_id in ids
            if (found := self._examine(checkpoint_id)) is not Condition.WHOLE
        ]

    def _examine(self, checkpoint_id: str) -> Condition:
        while True:
            before = self._read_checkpoint(checkpoint_id)
            found = examine(self.storage, before)
            after = self._read_checkpoint(checkpoint_id)
            if after.status is not CheckpointStatus.COMMITTED:
                return Condition.WHOLE  # it was given up meanwhile
            if after.has_state == before.has_state:
                return found

    def _read_checkpoint(self, checkpoint_id: str) -> Checkpoint:
        with self.database.reading() as session:
            return session.scalars(select(Checkpoint).where(Checkpoint.id == checkpoint_id)).one()

    def standing(self) -> dict[str, Standing]:
        """Return the state of each worker process according to the database."""
        pids = {self.processes[name].pid: name for name in self.names if name != "api"}
        ids = select(Worker.pid, Worker.id).where(Worker.pid.in_(pids)).order_by(Worker.started_at)
        trains = (Job.kind == WorkKind.TRAIN, Job.state == JobState.RUNNING)
        running = select(Job.lease_owner, Job.id, Job.lease_epoch).where(*trains)
        with self.database.reading() as session:
            known = {pids[pid]: worker_id for pid, worker_id in session.execute(ids)}
            held: dict[str | None, list[tuple[str, int]]] = defaultdict(list)
            for owner, job_id, lease_epoch in session.execute(running):
                held[owner].append((job_id, lease_epoch))
        return {name: Standing(known.get(name), held[known.get(name)]) for name in pids.values()}

    def read_events(self) -> dict[str, list[Event]]:
        """Return the events of every job."""
        return self._read_events("job_")

    def read_validations(self) -> dict[str, list[Event]]:
        """Return the events of every dataset's validation."""
        return self._read_events("val_")

    def read_predictions(self) -> dict[str, list[Event]]:
        """Return the events of every prediction over many images."""
        return self._read_events("pred_")

    def read_log(self) -> list[YardEvent]:
        """Return the entries of the yard's log."""
        with self.database.reading() as session:
            return list(session.scalars(select(YardEvent).order_by(YardEvent.number)))

    def _read_events(self, prefix: str) -> dict[str, list[Event]]:
        events: dict[str, list[Event]] = defaultdict(list)
        of_kind = select(JobEvent).where(JobEvent.job_id.startswith(prefix, autoescape=True))
        with self.database.reading() as session:
            for row in session.scalars(of_kind.order_by(JobEvent.job_id, JobEvent.seq)):
                told = (row.seq, row.at, row.type, row.state, row.reason, row.lease_epoch, row.worker_id, row.data)
                events[row.job_id].append(Event(*told))
        return events

    def read_points(self) -> dict[str, list[tuple[int, float]]]:
        """Return for each job the lease epoch and time of every point of its series."""
        points: dict[str, list[tuple[int, float]]] = defaultdict(list)
        with self.database.reading() as session:
            for job_id, epoch, at in session.execute(select(JobMetric.job_id, JobMetric.lease_epoch, JobMetric.at)):
                points[job_id].append((epoch, at))
        return points

    def count_in_logs(self, text: str) -> int:
        """Count lines of the processes' logs that contain a text."""
        paths = (self.folder / "logs").glob("*.log")
        return sum(line.count(text) for path in paths for line in path.read_text(errors="replace").splitlines())

    def read_steps(self) -> dict[str, dict[int, int]]:
        """Return for each job and attempt the steps made, as the trainers recorded them."""
        made: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        path = self._hook / "steps.log"
        for line in path.read_text().splitlines() if path.exists() else []:
            job_id, epoch, _step = line.split()
            made[job_id][int(epoch)] += 1
        return made

    def stop(self) -> None:
        for freeze in self._freezes:  # a server of somebody else must not stay frozen
            freeze.join()
        for process in [*self.processes.values(), self.queue.process]:
            if process is not None and process.poll() is None:
                process.kill()
                process.wait()
        self.storage.close()
        if self.store is not None:
            self.store.stop()
        self.database.close()


def _runs(pid: int, command: bytes) -> bool:
    try:
        return command in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
