"""Checkpoints in the database: find them, and say who uses them. `checkpoint_commits` records them.

Their files are handled by the storage and by `alexnet_core`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from sqlalchemy import (
    ColumnElement,
    Select,
    exists,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.orm import Session

from alexnet_core.layout import MANIFEST, CheckpointKind
from alexnet_core.regular_files import read_regular
from trainyard.artifacts.aliases import LATEST as LATEST
from trainyard.artifacts.aliases import get_alias, is_alias_name
from trainyard.database.connection import now
from trainyard.database.ids import has_form
from trainyard.database.pages import Page, get_page
from trainyard.database.tables import Alias, Checkpoint, Job
from trainyard.errors import CheckpointNotFound, CheckpointPruned, InvalidRequest, NoCheckpoint, NoCheckpointOfJob
from trainyard.jobs.events import append_event
from trainyard.jobs.jobs import get_job
from trainyard.jobs.yard_log import tell
from trainyard.scheduling.leases import resumable_checkpoints
from trainyard.states import CheckpointStatus, EventType, JobState, YardEventKind

_FINAL_STATES: list[ColumnElement[JobState]] = [literal_column(f"'{state}'") for state in JobState if state.is_final]
_OF_JOB = re.compile(r"(?P<job>job_[0-9a-z]+)(@(?P<which>latest|epoch-(?P<epoch>[0-9]{1,6})))?")


def is_in_use() -> ColumnElement[bool]:
    """Whether an alias names a checkpoint or may be rolled back to it, or a job that has not ended begins with it."""
    return or_(is_wanted_whole(), is_resumed_from())


def is_wanted_whole() -> ColumnElement[bool]:
    """Whether a checkpoint is in use in another way than by a job that resumes from it."""
    begins = exists().where(Job.init_from == Checkpoint.id, Job.state.not_in(_FINAL_STATES))
    columns = (Alias.checkpoint_id, Alias.canary_id, Alias.shadow_id, Alias.previous_id)
    named = exists().where(or_(*(column == Checkpoint.id for column in columns)))
    return or_(named, begins)


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

    Harmless if that was done before. Ask `examination` first: a store that does not answer proves nothing.

    The job's row, which the event changes, is locked first, as by everyone who locks both. Otherwise a commit would
    wait for this transaction's checkpoint, and this transaction for the commit's job.
    """
    made_it = select(Checkpoint.job_id).where(Checkpoint.id == checkpoint_id).scalar_subquery()
    session.execute(select(Job.id).where(Job.id == made_it).with_for_update())
    statement = (
        update(Checkpoint)
        .where(Checkpoint.id == checkpoint_id, Checkpoint.status == CheckpointStatus.COMMITTED)
        .values(status=status, pruned_at=now())
        .returning(Checkpoint.job_id, Checkpoint.owner)
        .execution_options(synchronize_session=False)
    )
    changed = session.execute(statement).one_or_none()
    if changed is not None:
        job_id, owner = changed
        tell(session, owner, YardEventKind.GONE, checkpoint_id)
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

    It is `latest`, an alias (its stable checkpoint), `job_…` (its best), `job_…@latest`, `job_…@epoch-3` or `ckpt_…`.

    Raises:
        NoCheckpoint: `latest`, and the owner has none.
        NoCheckpointOfJob: the job has none yet.
        JobNotFound, CheckpointNotFound, CheckpointPruned, AliasNotFound: see there.
        InvalidRequest: the reference has none of these forms.
    """
    if reference == LATEST:
        return get_latest(session, owner)
    if reference.startswith("ckpt_"):
        return get_checkpoint(session, owner, reference)
    if (of_job := _OF_JOB.fullmatch(reference)) is not None:
        epoch = of_job["epoch"]
        return _resolve_of_job(session, owner, of_job["job"], of_job["which"], None if epoch is None else int(epoch))
    if is_alias_name(reference):
        return get_checkpoint(session, owner, get_alias(session, owner, reference, param="model").checkpoint_id)
    raise InvalidRequest(
        f"model is {reference[:100]!r}: use `latest`, an alias, `job_…`, `job_…@latest`, `job_…@epoch-3` or `ckpt_…`",
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
