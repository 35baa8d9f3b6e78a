"""A trainer that says what a test wants, a clock that moves when somebody waits, and a supervisor between them."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, TypeAlias, cast

import pytest
from sqlalchemy import select, update

from alexnet_core.layout import CheckpointKind
from alexnet_core.messages import (
    AnyReport,
    CheckpointSaved,
    Command,
    Finished,
    Outcome,
    Spec,
    StopReason,
    StoredFile,
)
from tests.alexnet_core.reports import checkpoint_saved, started
from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database, now
from trainyard.database.tables import Dataset, Job, JobEvent
from trainyard.errors import DatabaseUnavailable
from trainyard.settings import Settings
from trainyard.storage.local import LocalStorage
from worker.attempt import Slot
from worker.supervisor import Supervisor
from worker.trainer import WarmTrainers

#: What a trainer does when its turn comes: it reports, or something happens that it has no part in.
Act: TypeAlias = AnyReport | Callable[[], object]

STARTED = started()
FINISHED = Finished(outcome=Outcome.SUCCEEDED, step=40, epoch=2, weights_sha256="f" * 64)


def changed(report: AnyReport, **values: Any) -> AnyReport:
    """A report with other values."""
    return type(report).model_validate(dict(report) | values)


def stopped(reason: str, *, stays: bool = False) -> AnyReport:
    """The last report of a trainer that stopped in order."""
    return changed(FINISHED, outcome=Outcome.STOPPED, reason=StopReason(reason), stays=stays)


MANIFEST, WEIGHTS = b"{}", "weights.safetensors"


class Clock:
    """Time that passes only where somebody waits."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class ActingTrainer:
    """Plays a script: reports, and functions that are called when their turn comes. At its end the process ends."""

    def __init__(self, clock: Clock, script: list[Act], status: int = 0, *, terminable: bool = True) -> None:
        self._clock, self._script, self._status, self._terminable = clock, iter(script), status, terminable
        self.commands: list[Command] = []
        self.has_ended = False
        self.was_killed = False

    @property
    def spec(self) -> Spec:
        """What it was sent first."""
        assert isinstance(self.commands[0], Spec)
        return self.commands[0]

    def send(self, command: Command) -> None:
        self.commands.append(command)

    def receive(self, timeout_s: float) -> AnyReport | None:
        if self.was_killed:
            self.has_ended = True
            return None
        for act in itertools.islice(self._script, 1):
            if not callable(act):
                return act
            self._clock.sleep(timeout_s)
            act()
            return None
        self.has_ended = True
        return None

    def terminate(self) -> None:
        self.was_killed = self._terminable

    def kill(self) -> None:
        self.was_killed = True

    def wait(self) -> int:
        return -9 if self.was_killed and not self.has_ended else self._status


class Stage:
    """A worker's hands: database, files, a clock and one trainer after the other."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database, self.clock = database, Clock()
        self.settings = Settings(data_dir=folder, tick_s=1, self_fence_s=60, backoff_s=2)
        self.storage = LocalStorage(folder)
        self.trainers: list[ActingTrainer] = []
        self.taken_back: list[ActingTrainer] = []
        self.draining = False
        self.waits_for_trainer = 0
        self._next: ActingTrainer | None = None
        self._looks_in_vain = 0
        self.supervisor = Supervisor(
            self.settings, database, self.storage, cast(WarmTrainers, self), is_draining=lambda: self.draining,
            clock=self.clock, sleep=self.clock.sleep,
        )  # fmt: skip

    def take(self, while_waiting: Callable[[], None]) -> ActingTrainer:
        """As `WarmTrainers` does."""
        for _ in range(self.waits_for_trainer):
            while_waiting()
        assert self._next is not None, "no trainer was to be started"
        self.trainers.append(self._next)
        return self.trainers[-1]

    def want_spare(self) -> None:
        """As `WarmTrainers` does."""

    def take_back(self, trainer: ActingTrainer) -> bool:
        """As `WarmTrainers` does."""
        self.taken_back.append(trainer)
        return True

    def add_ready_dataset(self) -> None:
        """A dataset whose pack stands in the storage."""
        pack = self.storage.folder("packs/x")
        pack.mkdir(parents=True)
        (pack / "pack.json").write_text("{}")
        with self.database.writing() as session:
            row = Dataset(
                id="ds_digits", name="digits", state="ready", digest="d", facts={}, key="packs/x", created_at=now()
            )
            session.add(row)

    def run(
        self,
        *script: Act,
        status: int = 0,
        starts: bool = True,
        database_away_for: int = 0,
        terminable: bool = True,
    ) -> ActingTrainer | None:
        """One attempt of the next job; the trainer that played in it."""
        self._next = ActingTrainer(self.clock, list(script), status, terminable=terminable) if starts else None
        with self.database.writing() as session:
            session.execute(update(Job).values(not_before=0))
        claimed = db_rows.claim_job(self.database, "wrk_a", 60)
        assert claimed is not None
        with self._database_away_for(database_away_for):
            self.supervisor.run(*claimed, Slot("cpu", self.settings.data_dir / "lock", 1))
        return self._next

    def reasons(self, job_id: str, event_type: str = "warning") -> list[str | None]:
        """Of a job's events of one type."""
        with self.database.reading() as session:
            query = select(JobEvent.reason).where(JobEvent.job_id == job_id, JobEvent.type == event_type)
            return list(session.scalars(query.order_by(JobEvent.seq)))

    def take_database_away(self, looks: int) -> None:
        """Within `run`: the supervisor's next `looks` transactions find no database."""
        self._looks_in_vain = looks

    @contextlib.contextmanager
    def _database_away_for(self, looks: int) -> Iterator[None]:
        self.take_database_away(looks)

        def fail_first(transaction: Callable[[], Any]) -> Callable[[], Any]:
            def begin() -> Any:
                if self._looks_in_vain > 0:
                    self._looks_in_vain -= 1
                    raise DatabaseUnavailable
                return transaction()

            return begin

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.database, "writing", fail_first(self.database.writing))
            patch.setattr(self.database, "reading", fail_first(self.database.reading))
            yield


def checkpoint_report(
    stage: Stage, job_id: str, step: int, lease_epoch: int = 1, kind: str = "epoch"
) -> CheckpointSaved:
    """What a trainer tells of a checkpoint; its folder is there."""
    folder = stage.storage.folder(f"checkpoints/{job_id}/{kind}-{step:08d}-e{lease_epoch}")
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(MANIFEST)
    (folder / WEIGHTS).write_bytes(b"whole")
    metrics = {"val_top1": 0.5, "val_loss": float("nan")}
    files = {WEIGHTS: StoredFile(sha256=sha256(b"whole").hexdigest(), size=5)}
    return checkpoint_saved(
        step, kind=CheckpointKind(kind), path=folder, epoch=step // 20, metrics=metrics, files=files,
        manifest_sha256=sha256(MANIFEST).hexdigest(),
    )  # fmt: skip
