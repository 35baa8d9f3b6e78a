"""Deletes jobs and datasets: rows in one transaction, files afterwards, even if that is interrupted several times.

The transaction also records which files to remove. So a job exists either completely or not at all. A process that ends
in between leaves only files that nobody can refer to any more, and the record that they must be removed.
"""

from __future__ import annotations

import logging

from sqlalchemy import CompoundSelect, and_, delete, or_, select, union_all, update
from sqlalchemy.orm import Session

from alexnet_core.layout import PACKS, checkpoints_key, evaluation_key, log_key, tensorboard_key
from trainyard.artifacts import datasets
from trainyard.artifacts.aliases import release_previous
from trainyard.artifacts.retries import hold_job
from trainyard.database.connection import Database, now
from trainyard.database.ids import has_form
from trainyard.database.tables import (
    Alias,
    Checkpoint,
    IdempotencyKey,
    Job,
    JobEvent,
    JobLabel,
    JobMetric,
    Outbox,
    Removal,
)
from trainyard.errors import IllegalTransition, InUse, StorageUnavailable
from trainyard.jobs.jobs import ID_PREFIXES
from trainyard.jobs.yard_log import tell
from trainyard.states import JobState, WorkKind, YardEventKind
from trainyard.storage.interface import Storage

log = logging.getLogger(__name__)

_AT_ONCE = 100


def delete_job(session: Session, owner: str, job_id: str) -> list[str]:
    """Delete a job's rows with its events, series, checkpoints and keys. `latest` then falls back by itself.

    Returns:
        What is to be removed from the storage once this transaction is committed: `remove_files`.

    Raises:
        JobNotFound: see `jobs.get_job`.
        IllegalTransition: the job has not ended.
        InUse: somebody needs one of its checkpoints.
    """
    job = hold_job(session, owner, job_id)
    if not job.state.is_final:
        raise IllegalTransition(
            f"job {job_id} is {job.shown_state}: cancel it first; only a job that has ended can be deleted"
        )
    # jobs before checkpoints, as every writer: a retry of a child holds the child, then wants one of the checkpoints
    of_job = select(Job.id).where(Job.parent_id == job_id).order_by(Job.id).with_for_update()
    child_ids = session.scalars(of_job).all()
    held = select(Checkpoint.id).where(Checkpoint.job_id == job_id).order_by(Checkpoint.id).with_for_update()
    checkpoint_ids = list(session.scalars(held))
    _refuse_if_in_use(session, job, checkpoint_ids)
    release_previous(session, checkpoint_ids)
    dataset_id = job.its_dataset.id
    session.execute(update(Job).where(Job.parent_id == job_id).values(parent_id=None))
    for table in (JobMetric, JobEvent, JobLabel, IdempotencyKey, Outbox, Checkpoint):
        session.execute(delete(table).where(table.job_id == job_id))
    session.expunge_all()
    session.execute(delete(Job).where(Job.id == job_id))
    tell(session, owner, YardEventKind.JOB, *child_ids)
    tell(session, owner, YardEventKind.GONE, job_id)
    datasets.forget_unseen(session, owner, dataset_id)
    keys = [checkpoints_key(job_id), tensorboard_key(job_id), log_key(job_id), evaluation_key(job_id)]
    session.add_all(Removal(key=key, created_at=now()) for key in keys)
    session.flush()
    return keys


def _refuse_if_in_use(session: Session, job: Job, checkpoint_ids: list[str]) -> None:
    columns = (Alias.checkpoint_id, Alias.canary_id, Alias.shadow_id)
    named = select(Alias.name).where(or_(*(column.in_(checkpoint_ids) for column in columns)))
    alias = session.scalar(named.order_by(Alias.name).limit(1))
    if alias is not None:
        raise InUse(f"the alias {alias!r} names a checkpoint of job {job.id}: move or delete it first")
    user = session.execute(users_of(job, checkpoint_ids).limit(1)).one_or_none()
    if user is not None:
        used = "predicts with" if has_form(user.id, ID_PREFIXES[WorkKind.PREDICT]) else "began with"
        raise InUse(f"{user.id} ({user.state}) {used} job {job.id}: cancel it or wait for its end")


def users_of(job: Job, checkpoint_ids: list[str]) -> CompoundSelect[str, JobState]:
    """The other jobs that have not ended and begin with a job or its checkpoints.

    A search in an index for each way to begin, as one condition for all would look at every job: for a best epoch that
    a retry was given, among its owner's jobs that have not ended; for the others, among the few that begin so.
    """
    lives = Job.state.in_([state for state in JobState if not state.is_final])
    ways = (
        Job.init_from.in_(checkpoint_ids),
        Job.resume_from.in_(checkpoint_ids),
        Job.parent_id == job.id,
        and_(Job.owner == job.owner, Job.best["checkpoint"].as_string().in_(checkpoint_ids)),
    )
    return union_all(*(select(Job.id, Job.state).where(way, lives, Job.id != job.id) for way in ways))


def remove_files(storage: Storage, keys: list[str]) -> list[str]:
    """Remove a deleted job's files. A checkpoint that is being read stays for now.

    Returns:
        The keys that are gone.
    """
    return [key for key in keys if _remove(storage, key)]


def _remove(storage: Storage, key: str) -> bool:
    try:
        if key.startswith(f"{PACKS}/"):
            return _remove_pack(storage, key)
        for name in storage.list_names(key):  # readers hold the checkpoint that they read, not the folder of them all
            storage.delete(f"{key}/{name}")
        is_gone = not storage.list_names(key) and storage.delete(key)
        storage.confirm()  # on a disk that is away everything looks removed
        return is_gone
    except (OSError, StorageUnavailable) as exc:
        log.warning("a deleted job's files can't be removed now", extra={"key": key, "detail": str(exc)})
        return False


def _remove_pack(storage: Storage, key: str) -> bool:
    is_gone = storage.delete(key)
    storage.confirm()
    return is_gone


def finish_removals(database: Database, storage: Storage, *, grace_s: float) -> int:
    """Remove files of deleted jobs that remain.

    A removal was interrupted, a reader held them, or a worker wrote late.

    Returns:
        The number of files and folders that are gone for good.
    """
    with database.reading() as session:
        due = select(Removal.key).where(Removal.created_at <= now() - grace_s).order_by(Removal.key).limit(_AT_ONCE)
        keys = list(session.scalars(due))
    gone = remove_files(storage, keys)
    if gone:
        with database.writing() as session:
            session.execute(delete(Removal).where(Removal.key.in_(gone)))
    return len(gone)
