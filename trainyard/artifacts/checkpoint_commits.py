"""The commit of a checkpoint: it is recorded and published, its job is changed, and older ones are pruned."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Insert,
    Sequence,
    String,
    Update,
    and_,
    any_,
    bindparam,
    case,
    insert,
    literal,
    or_,
    select,
    true,
    update,
)
from sqlalchemy.orm import Session

from alexnet_core.layout import CheckpointKind
from trainyard.artifacts.checkpoints import is_resumed_from, is_wanted_whole
from trainyard.database.connection import now
from trainyard.database.ids import new_id
from trainyard.database.numbers import Numbers, draw_number
from trainyard.database.repeated import REPEATED, plan_once
from trainyard.database.tables import Checkpoint, Job
from trainyard.jobs.events import change_and_tell
from trainyard.scheduling.leases import GUARDS, Lease, extended_lease, heartbeat
from trainyard.states import CheckpointStatus, Desired, EventType

# statements of a commit, built once: to build one takes longer than to run it
_LOCKED_JOB = (
    select(
        *(Job.id, Job.owner, Job.desired, Job.committed_step, Job.failures, Job.metrics, Job.best),
        Job.latest_checkpoint_id,
    )
    .where(*GUARDS)
    .with_for_update()
    .cte("locked_job")
)
_LOCKED_OLDER = (  # found by the locked job, so that its row is locked before theirs
    select(
        *(Checkpoint.id, Checkpoint.kind, Checkpoint.step, Checkpoint.lease_epoch),
        and_(Checkpoint.has_state, Checkpoint.state_pruned_at.is_(None)).label("with_state"),
    )
    .where(
        Checkpoint.job_id == _LOCKED_JOB.c.id,
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
    .with_for_update(of=Checkpoint)
    .cte("locked_older")
)
_JOB_AND_OLDER = (
    select(_LOCKED_JOB, _LOCKED_OLDER, plan_once())
    .select_from(_LOCKED_JOB.outerjoin(_LOCKED_OLDER, true()))
    .execution_options(**REPEATED)
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


class Committed(NamedTuple):
    """What a commit gives its worker."""

    id: str  #: the checkpoint's, or that of an earlier commit whose answer was lost
    desired: Desired  #: the job's, as a heartbeat returns it


class _Older(NamedTuple):
    """What retention needs to know of a committed checkpoint."""

    id: str
    kind: CheckpointKind
    step: int
    lease_epoch: int
    with_state: bool


def commit_checkpoint(
    session: Session, lease: Lease, new: NewCheckpoint, *, keep_latest: int, ttl_s: float | None = None, **columns: Any
) -> Committed:
    """Record a checkpoint in the database. An epoch's is published and moves `latest`. Older ones are pruned.

    On PostgreSQL it takes two statements, because a whole fleet may commit at the same moment: one locks the rows and
    the other, which sees whoever named a checkpoint before it was locked, does the rest. It draws the publication's
    number, so that as little as possible comes between a number and its commit.

    Args:
        session: a writing one.
        lease: of the attempt that made it.
        new: the checkpoint.
        keep_latest: so many of the newest epochs are kept.
        ttl_s: extends the lease, as a heartbeat does. None: the lease is left as it is.
        columns: what else a heartbeat would write.

    Raises:
        LeaseLost: the lease is over: the caller must remove the files.
    """
    job, older = _lock_job_and_older(session, lease, new)
    this = (lease.lease_epoch, new.kind, new.step)
    known = next((row.id for row in older if (row.lease_epoch, row.kind, row.step) == this), None)
    if known is not None:
        return Committed(known, job.desired if ttl_s is None else heartbeat(session, lease, ttl_s, **columns))
    values: dict[str, Any] = {
        "id": new_id("ckpt"), "owner": job.owner, "job_id": lease.job_id, "kind": new.kind, "epoch": new.epoch,
        "step": new.step, "lease_epoch": lease.lease_epoch, "key": new.key, "files": new.files,
        "metrics": new.metrics, "size_bytes": new.size_bytes, "weights_sha256": new.weights_sha256,
        "manifest_sha256": new.manifest_sha256, "status": CheckpointStatus.COMMITTED, "has_state": True,
    }  # fmt: skip
    is_epoch, is_furthest = new.kind is CheckpointKind.EPOCH, new.step > job.committed_step
    best = {"epoch": new.epoch, "checkpoint": values["id"]} | new.metrics if new.is_best else job.best
    of_job: dict[str, Any] = columns | {
        "latest_checkpoint_id": values["id"], "weights_sha256": new.weights_sha256, "best": best,
        "metrics": new.metrics if is_epoch else job.metrics, "committed_step": max(new.step, job.committed_step),
        "failures": 0 if is_furthest else job.failures,
    }  # fmt: skip
    newest = _Older(values["id"], new.kind, new.step, lease.lease_epoch, with_state=True)
    to_prune = _choose_to_prune(older, newest, (best or {}).get("checkpoint"), keep_latest)
    given: dict[str, Any] = {"of_job": lease.job_id} | to_prune | ({} if ttl_s is None else {"ttl_s": ttl_s})
    given |= {f"new_{name}": value for name, value in of_job.items()}
    given |= {f"row_{name}": value for name, value in values.items()}
    at_once = session.get_bind().dialect.name == "postgresql"
    if is_epoch and not at_once:
        given["row_publication"] = draw_number(session, Numbers.PUBLICATIONS)
    beside: tuple[Insert | Update, ...] = (_build_entry(is_numbered=is_epoch, draws=at_once),)
    if at_once or to_prune["asked"]:  # one statement for all commits is planned once
        beside = (*beside, _build_pruning(arrays=at_once))
    change = _build_change(tuple(of_job), extends=ttl_s is not None)
    data = {"checkpoint": values["id"], "kind": new.kind, "epoch": new.epoch, "step": new.step}
    told: dict[str, Any] = {"worker_id": lease.worker_id, "data": data, "checkpoint_id": values["id"]}
    change_and_tell(session, change, EventType.CHECKPOINT, **told, parameters=given, beside=beside)
    return Committed(values["id"], job.desired)


def _lock_job_and_older(session: Session, lease: Lease, new: NewCheckpoint) -> tuple[Any, list[_Older]]:
    """Lock the job's row and then, by their ids, as a deletion does, its committed checkpoints and this very one.

    A transaction that waits for the job's row sees it as it is then, but the checkpoints as they were before. If what
    it waited for was this very commit, sent before and given up too early, then the job's latest checkpoint is not
    among them, and they are read anew.

    Raises:
        LeaseLost: the lease is over.
    """
    session.flush()
    asked = lease.parameters | {"of_kind": new.kind, "of_step": new.step}
    for _ in range(2):
        rows = session.connection().execute(_JOB_AND_OLDER, asked).all()
        if not rows:
            raise lease.lost()
        job, num_columns = rows[0], len(_LOCKED_JOB.c)
        older = [_Older(*row[num_columns:-1]) for row in rows if row[num_columns] is not None]
        if job.latest_checkpoint_id in (None, *(row.id for row in older)):
            break
    return job, older


@cache
def _build_change(names: tuple[str, ...], *, extends: bool) -> Update:
    columns: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    lease = extended_lease() if extends else {}
    return update(Job).where(Job.id == bindparam("of_job")).values(columns | lease)


@cache
def _build_entry(*, is_numbered: bool, draws: bool) -> Insert:
    """Build the statement that adds the row. PostgreSQL draws its number within it; otherwise the number is given."""
    types = Checkpoint.__table__.c
    columns: dict[str, Any] = {name: bindparam(f"row_{name}", type_=types[name].type) for name in _ENTERED}
    if is_numbered:
        drawn = Sequence(Numbers.PUBLICATIONS).next_value()
        columns["publication"] = drawn if draws else bindparam("row_publication")
    return insert(Checkpoint).values(columns | {"created_at": now()})


def _choose_to_prune(
    older: list[_Older], newest: _Older, best_id: str | None, keep_latest: int
) -> dict[str, list[str]]:
    """Keep the best and the newest few; keep training state only where a job may resume from it.

    Returns:
        The parameters of `_build_pruning`.
    """
    committed = sorted([*older, newest], key=lambda row: (row.step, row.lease_epoch, row.id), reverse=True)
    epochs = [row.id for row in committed if row.kind is CheckpointKind.EPOCH]
    kept = {newest.id, best_id, *epochs[:keep_latest]}
    resumable = {newest.id, *[epoch for epoch in epochs if epoch != newest.id][:1]}
    unkept = [row.id for row in older if row.id not in kept]
    stateless = [row.id for row in older if row.id not in resumable and row.with_state]
    return {"asked": list({*unkept, *stateless}), "unkept": unkept, "stateless": stateless}


@cache
def _build_pruning(*, arrays: bool) -> Update:
    """Build the statement that prunes checkpoints, or only their training state, unless they are in use.

    Their rows are locked before it begins, so that a transaction which locked a row to name it is seen.

    Args:
        arrays: the ids are given as arrays, so that the statement is the same whatever their number.
    """

    def among(name: str) -> ColumnElement[bool]:
        if arrays:
            return Checkpoint.id == any_(bindparam(name, type_=ARRAY(String())))
        return Checkpoint.id.in_(bindparam(name, expanding=True))

    looks = {"is_wanted": is_wanted_whole(), "is_resumed": is_resumed_from(), "is_unkept": among("unkept")}
    uses = select(Checkpoint.id, *(look.label(name) for name, look in looks.items())).where(among("asked")).cte("uses")
    uses = uses.prefix_with("MATERIALIZED", dialect="postgresql")  # else each use is looked up several times
    given_up = and_(uses.c.is_unkept, ~uses.c.is_wanted, ~uses.c.is_resumed)
    without_state = and_(among("stateless"), ~uses.c.is_resumed)
    columns = {
        "status": case((given_up, literal(CheckpointStatus.PRUNED, Checkpoint.status.type)), else_=Checkpoint.status),
        "pruned_at": case((given_up, now()), else_=Checkpoint.pruned_at),
        "state_pruned_at": case((given_up, Checkpoint.state_pruned_at), else_=now()),
    }
    return update(Checkpoint).where(Checkpoint.id == uses.c.id, or_(given_up, without_state)).values(columns)
