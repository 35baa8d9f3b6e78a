"""Checkpoints in the database: commit, publish, prune and find them.

Their files are handled by the storage and by `alexnet_core`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    Sequence,
    Update,
    and_,
    bindparam,
    case,
    exists,
    insert,
    literal,
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
from trainyard.database.ids import has_form, new_id
from trainyard.database.numbers import Numbers, draw_number
from trainyard.database.pages import Page, get_page
from trainyard.database.tables import Alias, Checkpoint, Job
from trainyard.errors import CheckpointNotFound, CheckpointPruned, InvalidRequest, NoCheckpoint, NoCheckpointOfJob
from trainyard.jobs.events import append_event, change_and_tell
from trainyard.jobs.jobs import get_job
from trainyard.jobs.yard_log import tell
from trainyard.scheduling.leases import Lease, read_fenced, resumable_checkpoints
from trainyard.states import CheckpointStatus, EventType, JobState, YardEventKind

_FINAL_STATES = [state for state in JobState if state.is_final]
_OF_JOB = re.compile(r"(?P<job>job_[0-9a-z]+)(@(?P<which>latest|epoch-(?P<epoch>[0-9]{1,6})))?")

# statements of a commit, built once: to build one takes longer than to run it
_COMMITTED_OR_THIS = (
    select(
        *(Checkpoint.id, Checkpoint.kind, Checkpoint.step, Checkpoint.lease_epoch),
        and_(Checkpoint.has_state, Checkpoint.state_pruned_at.is_(None)),
    )
    .where(
        Checkpoint.job_id == bindparam("of_job"),
        or_(
            Checkpoint.status == CheckpointStatus.COMMITTED,
            and_(
                Checkpoint.lease_epoch == bindparam("of_epoch"),
                Checkpoint.kind == bindparam("of_kind"),
                Checkpoint.step == bindparam("of_step"),
            ),
        ),
    )
    .order_by(Checkpoint.id)
    .with_for_update()
)
_ENTERED = (
    *("id", "owner", "job_id", "kind", "epoch", "step", "lease_epoch", "key", "files", "metrics", "size_bytes"),
    *("weights_sha256", "manifest_sha256", "status", "has_state"),
)


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


class _Older(NamedTuple):
    """What retention needs to know of a committed checkpoint."""

    id: str
    kind: CheckpointKind
    step: int
    lease_epoch: int
    with_state: bool


def commit_checkpoint(session: Session, lease: Lease, new: NewCheckpoint, *, keep_latest: int) -> str:
    """Record a checkpoint in the database. An epoch's is published and moves `latest`. Older ones are pruned.

    It takes few statements, because a whole fleet may commit at the same moment. The last one draws the publication's
    number, so that as little as possible comes between a number and its commit.

    Returns:
        Its id, or that of an earlier commit whose answer was lost.

    Raises:
        LeaseLost: the lease is over: the caller must remove the files.
    """
    owner, committed_step, best = read_fenced(session, lease, Job.owner, Job.committed_step, Job.best)
    known, older = _lock_older(session, lease, new)
    if known is not None:
        return known
    values: dict[str, Any] = {
        "id": new_id("ckpt"), "owner": owner, "job_id": lease.job_id, "kind": new.kind, "epoch": new.epoch,
        "step": new.step, "lease_epoch": lease.lease_epoch, "key": new.key, "files": new.files,
        "metrics": new.metrics, "size_bytes": new.size_bytes, "weights_sha256": new.weights_sha256,
        "manifest_sha256": new.manifest_sha256, "status": CheckpointStatus.COMMITTED, "has_state": True,
    }  # fmt: skip
    of_job: dict[str, Any] = {"latest_checkpoint_id": values["id"], "weights_sha256": new.weights_sha256}
    if new.step > committed_step:
        of_job |= {"committed_step": new.step, "failures": 0}
    if new.kind is CheckpointKind.EPOCH:
        of_job["metrics"] = new.metrics
    if new.is_best:
        best = of_job["best"] = {"epoch": new.epoch, "checkpoint": values["id"]} | new.metrics
    newest = _Older(values["id"], new.kind, new.step, lease.lease_epoch, with_state=True)
    _prune_older(session, older, newest, (best or {}).get("checkpoint"), keep_latest)
    data = {"checkpoint": values["id"], "kind": new.kind, "epoch": new.epoch, "step": new.step}
    given = {"of_job": lease.job_id} | {f"new_{name}": value for name, value in of_job.items()}
    given |= {f"entered_{name}": value for name, value in values.items()}
    is_numbered, draws = new.kind is CheckpointKind.EPOCH, session.get_bind().dialect.name == "postgresql"
    if is_numbered and not draws:
        given["entered_publication"] = draw_number(session, Numbers.PUBLICATIONS)
    change, entry = _build_change(tuple(of_job)), _build_entry(is_numbered=is_numbered, draws=draws)
    told: dict[str, Any] = {"worker_id": lease.worker_id, "data": data, "checkpoint_id": values["id"]}
    change_and_tell(session, change, EventType.CHECKPOINT, **told, parameters=given, beside=entry)
    return str(values["id"])


@cache
def _build_change(names: tuple[str, ...]) -> Update:
    return update(Job).where(Job.id == bindparam("of_job")).values({name: bindparam(f"new_{name}") for name in names})


@cache
def _build_entry(*, is_numbered: bool, draws: bool) -> Insert:
    """Build the statement that adds the row. PostgreSQL draws its number within it; otherwise the number is given."""
    types = Checkpoint.__table__.c
    columns: dict[str, Any] = {name: bindparam(f"entered_{name}", type_=types[name].type) for name in _ENTERED}
    if is_numbered:
        drawn = Sequence(Numbers.PUBLICATIONS).next_value()
        columns["publication"] = drawn if draws else bindparam("entered_publication")
    return insert(Checkpoint).values(columns | {"created_at": now()})


def _lock_older(session: Session, lease: Lease, new: NewCheckpoint) -> tuple[str | None, list[_Older]]:
    """Lock the job's committed checkpoints, after the job's own row and by their ids, as a deletion does.

    Returns:
        The id of this very checkpoint, if it was committed earlier but the answer was lost; and the job's committed
        checkpoints.
    """
    this = {"of_job": lease.job_id, "of_epoch": lease.lease_epoch, "of_kind": new.kind, "of_step": new.step}
    locked = session.connection().execute(_COMMITTED_OR_THIS, this)
    older = [_Older(*row) for row in locked]
    same = (lease.lease_epoch, new.kind, new.step)
    known = next((row.id for row in older if (row.lease_epoch, row.kind, row.step) == same), None)
    return known, older


def _prune_older(session: Session, older: list[_Older], newest: _Older, best_id: str | None, keep_latest: int) -> None:
    """Keep the best, the newest few and those in use; keep training state only where a job may resume from it.

    The rows are locked before their users are looked up, so that a transaction which locked a row to name it is seen.
    """
    committed = sorted([*older, newest], key=lambda row: (row.step, row.lease_epoch, row.id), reverse=True)
    epochs = [row.id for row in committed if row.kind is CheckpointKind.EPOCH]
    kept = {newest.id, best_id, *epochs[:keep_latest]}
    resumable = {newest.id, *[epoch for epoch in epochs if epoch != newest.id][:1]}
    if all(row.id in kept and (row.id in resumable or not row.with_state) for row in older):
        return
    unkept = [row.id for row in older if row.id not in kept]
    stateless = [row.id for row in older if row.id not in resumable and row.with_state]
    given = {"asked": list({*unkept, *stateless}), "unkept": unkept, "stateless": stateless}
    session.connection().execute(_build_pruning(), given)


@cache
def _build_pruning() -> Update:
    """Build the statement that prunes checkpoints, or only their training state, unless they are in use."""
    asked = select(Checkpoint.id, is_in_use().label("is_used"), is_resumed_from().label("is_resumed"))
    uses = asked.where(Checkpoint.id.in_(bindparam("asked", expanding=True))).cte("uses")
    uses = uses.prefix_with("MATERIALIZED", dialect="postgresql")  # else each use is looked up several times
    given_up = and_(Checkpoint.id.in_(bindparam("unkept", expanding=True)), ~uses.c.is_used)
    without_state = and_(Checkpoint.id.in_(bindparam("stateless", expanding=True)), ~uses.c.is_resumed)
    columns = {
        "status": case((given_up, literal(CheckpointStatus.PRUNED, Checkpoint.status.type)), else_=Checkpoint.status),
        "pruned_at": case((given_up, now()), else_=Checkpoint.pruned_at),
        "state_pruned_at": case((given_up, Checkpoint.state_pruned_at), else_=now()),
    }
    pruned = update(Checkpoint).where(Checkpoint.id == uses.c.id, or_(given_up, without_state))
    return pruned.values(columns).execution_options(synchronize_session=False)


def is_in_use() -> ColumnElement[bool]:
    """Whether an alias names a checkpoint or may be rolled back to it, or a job that has not ended begins with it."""
    begins = exists().where(Job.init_from == Checkpoint.id, Job.state.not_in(_FINAL_STATES))
    columns = (Alias.checkpoint_id, Alias.canary_id, Alias.shadow_id, Alias.previous_id)
    named = exists().where(or_(*(column == Checkpoint.id for column in columns)))
    return or_(named, begins, is_resumed_from())


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
