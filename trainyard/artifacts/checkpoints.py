"""Checkpoints in the database: commit, publish, prune and find them.

Their files are handled by the storage and by `alexnet_core`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Select, exists, or_, select, update
from sqlalchemy.orm import Session
from sqlalchemy.orm.attributes import set_committed_value

from alexnet_core.layout import MANIFEST, CheckpointKind
from alexnet_core.regular_files import read_regular
from trainyard.database.connection import now
from trainyard.database.ids import has_form, new_id
from trainyard.database.numbers import Numbers, next_number
from trainyard.database.pages import Page, get_page
from trainyard.database.tables import Alias, Checkpoint, Job
from trainyard.errors import CheckpointNotFound, CheckpointPruned, InvalidRequest, NoCheckpoint, NoCheckpointOfJob
from trainyard.jobs.events import append_event
from trainyard.jobs.jobs import get_job
from trainyard.scheduling.leases import Lease, resumable_checkpoints, write_fenced
from trainyard.states import CheckpointStatus, EventType, JobState

LATEST = "latest"
_FINAL_STATES = [state for state in JobState if state.is_final]
_OF_JOB = re.compile(r"(?P<job>job_[0-9a-z]+)(@(?P<which>latest|epoch-(?P<epoch>[0-9]{1,6})))?")


@dataclass(frozen=True)
class NewCheckpoint:
    """A checkpoint that its trainer reported, with its files complete and in place."""

    kind: CheckpointKind
    key: str
    epoch: int
    step: int
    metrics: dict[str, Any]
    files: dict[str, Any]
    size_bytes: int
    weights_sha256: str
    manifest_sha256: str
    is_best: bool


def commit_checkpoint(session: Session, lease: Lease, new: NewCheckpoint, *, keep_latest: int) -> Checkpoint:
    """Record a checkpoint in the database. An epoch's is published and moves `latest`. Older ones are pruned.

    Raises:
        LeaseLost: the lease is over: the caller must remove the files.
    """
    write_fenced(session, lease, {"heartbeat_at": now()})
    if (known := _find_committed(session, lease, new)) is not None:
        return known
    job = session.scalars(select(Job).where(Job.id == lease.job_id).execution_options(populate_existing=True)).one()
    checkpoint = Checkpoint(
        id=new_id("ckpt"),
        owner=job.owner,
        job_id=job.id,
        kind=new.kind,
        epoch=new.epoch,
        step=new.step,
        lease_epoch=lease.lease_epoch,
        key=new.key,
        files=new.files,
        metrics=new.metrics,
        size_bytes=new.size_bytes,
        weights_sha256=new.weights_sha256,
        manifest_sha256=new.manifest_sha256,
        publication=None,
        status=CheckpointStatus.COMMITTED,
        has_state=True,
        created_at=now(),
    )
    session.add(checkpoint)
    session.flush()
    job.latest_checkpoint_id = checkpoint.id
    job.weights_sha256 = new.weights_sha256
    if new.step > job.committed_step:
        job.committed_step, job.failures = new.step, 0
    if new.kind is CheckpointKind.EPOCH:
        job.metrics = new.metrics
    if new.is_best:
        job.best = {"epoch": new.epoch, "checkpoint": checkpoint.id} | new.metrics
    session.flush()
    _prune_older(session, job, checkpoint, keep_latest)
    data = {"checkpoint": checkpoint.id, "kind": new.kind, "epoch": new.epoch, "step": new.step}
    append_event(session, job.id, EventType.CHECKPOINT, worker_id=lease.worker_id, data=data)
    if new.kind is CheckpointKind.EPOCH:  # last: as little as possible comes between a number and its commit
        number = next_number(session, Numbers.PUBLICATIONS)
        publish = update(Checkpoint).where(Checkpoint.id == checkpoint.id).values(publication=number)
        published = session.scalar(
            publish.returning(Checkpoint.publication).execution_options(synchronize_session=False)
        )
        set_committed_value(checkpoint, "publication", published)
    return checkpoint


def _find_committed(session: Session, lease: Lease, new: NewCheckpoint) -> Checkpoint | None:
    """Find this very checkpoint, if it was committed earlier but the answer was lost."""
    return session.scalars(
        select(Checkpoint).where(
            Checkpoint.job_id == lease.job_id,
            Checkpoint.lease_epoch == lease.lease_epoch,
            Checkpoint.kind == new.kind,
            Checkpoint.step == new.step,
        )
    ).one_or_none()


def _prune_older(session: Session, job: Job, newest: Checkpoint, keep_latest: int) -> None:
    """Keep the best, the newest few and those in use; keep training state only where a job may resume from it.

    The rows are locked before it is read who needs them, so that whoever locked one to name it is seen: first the job's
    own row, as the caller did, then its checkpoints by their ids, as in a deletion.
    """
    best_id = (job.best or {}).get("checkpoint")
    locked = _committed().where(Checkpoint.job_id == job.id).order_by(Checkpoint.id).with_for_update()
    committed = sorted(
        session.scalars(locked.execution_options(populate_existing=True)),
        key=lambda row: (row.step, row.lease_epoch, row.id),
        reverse=True,
    )
    epochs = [row for row in committed if row.kind == CheckpointKind.EPOCH]
    of_job = Checkpoint.job_id == job.id
    needed = session.execute(
        select(Checkpoint.id, is_resumed_from().label("with_state")).where(of_job, is_in_use())
    ).all()
    in_use = {row.id for row in needed}
    kept = {newest.id, best_id} | in_use | {row.id for row in epochs[:keep_latest]}
    resumable = {newest.id} | {row.id for row in [row for row in epochs if row.id != newest.id][:1]}
    resumable |= {row.id for row in needed if row.with_state}
    for row in committed:
        if row.id not in kept:
            row.status, row.pruned_at = CheckpointStatus.PRUNED, now()
        elif row.id not in resumable and row.has_state and row.state_pruned_at is None:
            row.state_pruned_at = now()
    session.flush()


def is_in_use() -> ColumnElement[bool]:
    """Whether an alias names a checkpoint, or a job that has not ended begins with it."""
    begins = exists().where(Job.init_from == Checkpoint.id, Job.state.not_in(_FINAL_STATES))
    return or_(exists().where(Alias.checkpoint_id == Checkpoint.id), begins, is_resumed_from())


def is_resumed_from() -> ColumnElement[bool]:
    """Whether a job that has not ended begins with a checkpoint's training state."""
    return exists().where(Job.resume_from == Checkpoint.id, Job.state.not_in(_FINAL_STATES))


def has_its_manifest(folder: Path, sha256: str) -> bool:
    """Whether a checkpoint's manifest is the one that was committed. It lists the hashes of all other files.

    Raises:
        OSError: it can't be read.
    """
    return hashlib.sha256(read_regular(folder, MANIFEST)).hexdigest() == sha256


def set_aside(session: Session, checkpoint_id: str, status: CheckpointStatus, detail: str) -> None:
    """Take a corrupt or missing checkpoint out of use, and record this in its job's events.

    It is harmless when that was done before. Ask `examination` first: a store that does not answer says nothing.

    Its job's row, which the event changes, is locked first, as by all who lock both: a commit would wait for this one's
    checkpoint, and this one for the commit's job.
    """
    made_it = select(Checkpoint.job_id).where(Checkpoint.id == checkpoint_id).scalar_subquery()
    session.execute(select(Job.id).where(Job.id == made_it).with_for_update())
    statement = (
        update(Checkpoint)
        .where(Checkpoint.id == checkpoint_id, Checkpoint.status == CheckpointStatus.COMMITTED)
        .values(status=status, pruned_at=now())
        .returning(Checkpoint.job_id)
        .execution_options(synchronize_session=False)
    )
    job_id = session.scalar(statement)
    if job_id is not None:
        data = {"checkpoint": checkpoint_id, "detail": detail}
        append_event(session, job_id, EventType.WARNING, reason=f"checkpoint_{status}", data=data)


def find_resumable(session: Session, job_id: str) -> Checkpoint | None:
    """Find the checkpoint that a job resumes from: the furthest with training state. None: the job starts over."""
    return session.scalars(resumable_checkpoints(job_id).limit(1)).one_or_none()


def find_usable(session: Session, checkpoint_id: str | None, *, with_state: bool = False) -> Checkpoint | None:
    """Find a usable checkpoint by its id, whoever owns it; with `with_state`, only one with training state."""
    query = _committed().where(Checkpoint.id == checkpoint_id)
    if with_state:
        query = query.where(Checkpoint.has_state, Checkpoint.state_pruned_at.is_(None))
    return session.scalars(query).one_or_none()


def get_checkpoint(session: Session, owner: str, checkpoint_id: str) -> Checkpoint:
    """Return a checkpoint that can be used.

    Raises:
        CheckpointNotFound: there is none of this id, or it is another owner's.
        CheckpointPruned: it was given up.
    """
    query = select(Checkpoint).where(Checkpoint.id == checkpoint_id, Checkpoint.owner == owner)
    found = session.scalars(query).one_or_none() if has_form(checkpoint_id, "ckpt") else None
    if found is None:
        raise CheckpointNotFound(
            f"there is no checkpoint {checkpoint_id!r}: `GET /jobs/{{id}}/checkpoints` lists a job's",
            param="checkpoint_id",
        )
    return _usable(found)


def list_checkpoints(
    session: Session, owner: str, *, job_id: str | None, limit: int, after: str | None = None
) -> Page[Checkpoint]:
    """Return a page of the checkpoints that can be used, newest first.

    Raises:
        JobNotFound: see `jobs.get_job`.
    """
    query = _committed().where(Checkpoint.owner == owner)
    if job_id is not None:
        query = query.where(Checkpoint.job_id == get_job(session, owner, job_id).id)
    visible = select(Checkpoint).where(Checkpoint.owner == owner)
    return get_page(session, query, Checkpoint, limit=limit, after=after, visible=visible)


def resolve_model(session: Session, owner: str, reference: str) -> Checkpoint:
    """Return the checkpoint for `?model=`.

    It is `latest`, `job_…` (its best), `job_…@latest`, `job_…@epoch-3` or `ckpt_…`.

    Raises:
        NoCheckpoint: `latest`, and the owner has none.
        NoCheckpointOfJob: the job has none yet.
        JobNotFound, CheckpointNotFound, CheckpointPruned: see there.
        InvalidRequest: the reference has none of these forms.
    """
    if reference == LATEST:
        return get_latest(session, owner)
    if reference.startswith("ckpt_"):
        return get_checkpoint(session, owner, reference)
    if (of_job := _OF_JOB.fullmatch(reference)) is not None:
        epoch = of_job["epoch"]
        return _resolve_of_job(session, owner, of_job["job"], of_job["which"], None if epoch is None else int(epoch))
    raise InvalidRequest(
        f"model is {reference[:100]!r}: use `latest`, `job_…`, `job_…@latest`, `job_…@epoch-3` or `ckpt_…`",
        param="model",
    )


def get_latest(session: Session, owner: str, *, skip: frozenset[str] = frozenset()) -> Checkpoint:
    """Return the owner's newest published checkpoint.

    Args:
        session: any.
        owner: whose.
        skip: ids that are passed over.

    Raises:
        NoCheckpoint: there is none.
    """
    query = _published(owner).where(Checkpoint.id.not_in(skip)).limit(1)
    latest = session.scalars(query).one_or_none()
    if latest is None:
        raise NoCheckpoint(retry_after_s=5)
    return latest


def _resolve_of_job(session: Session, owner: str, job_id: str, which: str | None, epoch: int | None) -> Checkpoint:
    job = get_job(session, owner, job_id)
    if epoch is not None:
        query = select(Checkpoint).where(
            Checkpoint.job_id == job.id, Checkpoint.kind == CheckpointKind.EPOCH, Checkpoint.epoch == epoch
        )
        found = session.scalars(query.order_by(Checkpoint.publication.desc()).limit(1)).one_or_none()
        if found is None:
            raise CheckpointNotFound(f"job {job_id} has no checkpoint of epoch {epoch}", param="model")
        return _usable(found)
    best_id = None if which == LATEST else (job.best or {}).get("checkpoint")
    of_job = _published(owner).where(Checkpoint.job_id == job.id).limit(1)
    best = session.scalars(_committed().where(Checkpoint.id == best_id)).one_or_none() if best_id else None
    found = best or session.scalars(of_job).one_or_none()
    if found is None:
        raise NoCheckpointOfJob(f"job {job_id} ({job.shown_state}) has no checkpoint yet", param="model")
    return found


def _usable(checkpoint: Checkpoint) -> Checkpoint:
    if checkpoint.status in {CheckpointStatus.PRUNED, CheckpointStatus.DELETED}:
        raise CheckpointPruned(
            f"checkpoint {checkpoint.id} was pruned: a job keeps its best, its latest and aliased ones"
        )
    if checkpoint.status == CheckpointStatus.CORRUPT:
        raise CheckpointNotFound(
            f"checkpoint {checkpoint.id} is damaged on disk and can't be used", param="checkpoint_id"
        )
    if checkpoint.status == CheckpointStatus.MISSING:
        raise CheckpointNotFound(
            f"the files of checkpoint {checkpoint.id} are not in the store: it is used again once they are back",
            param="checkpoint_id",
        )
    return checkpoint


def _committed() -> Select[Checkpoint]:
    return select(Checkpoint).where(Checkpoint.status == CheckpointStatus.COMMITTED)


def _published(owner: str) -> Select[Checkpoint]:
    published = _committed().where(Checkpoint.owner == owner, Checkpoint.publication.is_not(None))
    return published.order_by(Checkpoint.publication.desc())
