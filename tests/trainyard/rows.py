"""What the tests of the database share: rows made in one line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import event, select, text, update
from sqlalchemy.orm import Session

from alexnet_core.config import TrainConfig
from alexnet_core.layout import CheckpointKind
from trainyard.artifacts.checkpoint_commits import NewCheckpoint, commit_checkpoint
from trainyard.database.connection import Database, now
from trainyard.database.schema import current_revision
from trainyard.database.tables import Checkpoint, Dataset, Job
from trainyard.errors import DatabaseUnavailable
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling import leases

OWNER = "local"
CONFIG: dict[str, Any] = json.loads(
    TrainConfig(
        widths=(8, 8, 8, 8, 8), kernels=(3, 3, 3, 3, 3), fc_widths=(16, 16), image_px=12, batch_size=16, epochs=2,
        lr=0.02,
    ).model_dump_json()
)  # fmt: skip


def add_dataset(database: Database, dataset_id: str = "ds_digits", owner: str | None = None) -> None:
    with database.writing() as session:
        session.add(
            Dataset(id=dataset_id, owner=owner, name=dataset_id[3:], state="ready", facts={}, key=f"packs/{dataset_id}",
                    created_at=now())
        )  # fmt: skip


def submit(database: Database, owner: str = OWNER, *, max_failures: int = 3, **new: Any) -> str:
    with database.writing() as session:
        dataset = session.get(Dataset, "ds_digits")
        if dataset is None:
            dataset = Dataset(id="ds_digits", name="digits", state="ready", facts={}, key="packs/x", created_at=now())
            session.add(dataset)
            session.flush()
        given: dict[str, Any] = {"config": CONFIG, "seed": 1} | new
        job = NewJob(recipe="quick", max_failures=max_failures, **given)
        return jobs.submit(session, owner, dataset, job).id


def claim(database: Database, worker: str = "wrk_a", ttl_s: float = 60) -> leases.Lease:
    claimed = claim_job(database, worker, ttl_s)
    assert claimed is not None
    return claimed[1]


def try_claim(database: Database, worker: str = "wrk_a") -> str | None:
    claimed = claim_job(database, worker, 60)
    return claimed and claimed[0].id


def claim_job(database: Database, worker: str, ttl_s: float, **more: Any) -> tuple[Job, leases.Lease] | None:
    """Claim, and once more if this process was held up for `SILENT_CLAIM_S`, for which PostgreSQL ends a claim."""
    try:
        with database.writing() as session:
            return leases.claim(session, worker, ttl_s, **more)
    except DatabaseUnavailable as exc:
        if "idle-in-transaction" not in str(exc.__cause__):
            raise
    with database.writing() as session:
        return leases.claim(session, worker, ttl_s, **more)


def allow_silence(session: Session) -> None:
    """Let the transaction of a claim be silent from here on: PostgreSQL would end it after `SILENT_CLAIM_S`."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))


def look(database: Database, job_id: str) -> Job:
    with database.reading() as session:
        return session.scalars(select(Job).where(Job.id == job_id)).one()


def act(database: Database, action: Callable[[Session, str, str], Job], job_id: str) -> Job:
    with database.writing() as session:
        return action(session, OWNER, job_id)


def write(database: Database, job_id: str, **values: Any) -> None:
    with database.writing() as session:
        session.execute(update(Job).where(Job.id == job_id).values(values))


def new_checkpoint(
    lease: leases.Lease, step: int, *, kind: CheckpointKind = CheckpointKind.EPOCH, is_best: bool = False
) -> NewCheckpoint:
    return NewCheckpoint(
        kind=kind, key=f"checkpoints/{lease.job_id}/{kind}-{step}-{lease.lease_epoch}", epoch=step // 10, step=step,
        metrics={"val_top1": 0.5}, files={}, size_bytes=1, weights_sha256="0" * 64, manifest_sha256="1" * 64,
        is_best=is_best,
    )  # fmt: skip


def commit(
    database: Database, lease: leases.Lease, step: int, *, kind: CheckpointKind = CheckpointKind.EPOCH,
    is_best: bool = False, keep_latest: int = 2,
) -> str:  # fmt: skip
    new = new_checkpoint(lease, step, kind=kind, is_best=is_best)
    with database.writing() as session:
        return commit_checkpoint(session, lease, new, keep_latest=keep_latest).id


@contextmanager
def counting_statements(database: Database) -> Iterator[list[str]]:
    """Inside, every statement that is sent is added to the list."""
    statements: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield statements
    finally:
        event.remove(database.engine, "before_cursor_execute", note)


def wait_for_lock(database: Database, thread: threading.Thread) -> None:
    """Return once a transaction of a thread's waits for a row that another holds; on SQLite it can't even begin."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while database.engine.dialect.name == "postgresql" and thread.is_alive():
        with database.reading() as session:
            if session.scalar(waiting):
                return


def statuses(database: Database) -> dict[str, str]:
    with database.reading() as session:
        return {row.id: row.status for row in session.scalars(select(Checkpoint))}


@contextmanager
def revision_of_tables(database: Database, revision: str) -> Iterator[None]:
    """Inside, the database says that its tables are at another revision."""
    change = text("UPDATE alembic_version SET version_num = :revision")
    before = current_revision(database)
    with database.writing() as session:
        session.execute(change, {"revision": revision})
    try:
        yield
    finally:
        with database.writing() as session:
            session.execute(change, {"revision": before})
