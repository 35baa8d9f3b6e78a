"""Writes a job's event log: state changes, requests, checkpoints and warnings, numbered without gaps.

With each event the yard's log gets an entry, so that who follows the whole yard sees the change too.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Insert,
    String,
    Update,
    and_,
    bindparam,
    case,
    insert,
    literal,
    literal_column,
    select,
    update,
)
from sqlalchemy.orm import Session
from sqlalchemy.sql.dml import ReturningInsert

from trainyard.database.connection import now
from trainyard.database.repeated import REPEATED
from trainyard.database.tables import Job, JobEvent
from trainyard.jobs.yard_log import tell_of_work, with_entry
from trainyard.logs import request_id
from trainyard.states import Desired, EventType, JobState, ShownState, shown_state


class StateChange(NamedTuple):
    """The content of an event of the type `state`."""

    seq: int
    state: ShownState
    at: float
    reason: str | None


_TEXT = String()
_SHOWN_OTHERWISE = [
    (pair, shown) for pair in product(JobState, Desired) if (shown := shown_state(*pair)).value != pair[0].value
]
_TOLD_OF_A_JOB = (
    *(Job.id, Job.event_seq, Job.state, Job.desired, Job.lease_epoch),
    *(Job.owner, Job.kind, Job.dataset_id),
)
_STATE_CHANGES = (
    select(JobEvent.job_id, JobEvent.seq, JobEvent.state, JobEvent.at, JobEvent.reason)
    .where(JobEvent.job_id.in_(bindparam("job_ids", expanding=True)), JobEvent.type == EventType.STATE)
    .order_by(JobEvent.job_id, JobEvent.seq)
)


def append_event(
    session: Session,
    job_id: str,
    event_type: EventType,
    *,
    reason: str | None = None,
    worker_id: str | None = None,
    data: dict[str, Any] | None = None,
) -> int:
    """Write the next event of a job, in the transaction of the change that it reports.

    Returns:
        Its number, from 1.
    """
    job = update(Job).where(Job.id == job_id)
    seq = change_and_tell(session, job, event_type, reason=reason, worker_id=worker_id, data=data)
    assert seq is not None, f"there is no job {job_id}"
    return seq


def change_and_tell(
    session: Session,
    change: Update,
    event_type: EventType,
    *,
    reason: str | None = None,
    worker_id: str | None = None,
    data: dict[str, Any] | None = None,
    checkpoint_id: str | None = None,
    parameters: dict[str, Any] | None = None,
    beside: tuple[Insert | Update, ...] = (),
) -> int | None:
    """Change one job, and write the next event of its log and the entry of the yard's.

    Args:
        session: a writing one.
        change: an UPDATE of one row of `jobs`.
        event_type: of the event, as what follows.
        reason: machine-readable.
        worker_id: who changes it, where a worker does.
        data: what else there is to say.
        checkpoint_id: the checkpoint that the event reports, for the yard's log.
        parameters: of `change` and `beside`, where they are statements that their caller keeps: the whole is then built
            once.
        beside: what else belongs to the change, with `parameters`. On PostgreSQL all is one statement.

    Returns:
        The event's number, from 1; None: no row matched, and nothing was written.
    """
    told: dict[str, Any] = {
        "reason": reason,
        "worker_id": worker_id,
        "request_id": request_id.get(),
        "data": data or {},
    }
    session.flush()
    connection = session.connection()
    if connection.dialect.name == "postgresql":
        if parameters is None:
            logged = with_its_event(change, checkpoint_id=literal(checkpoint_id, _TEXT), type=event_type, **told)
            statement, given = logged.returning(JobEvent.seq), {}
        else:
            given = {f"told_{name}": value for name, value in (told | {"type": event_type}).items()} | parameters
            given["told_checkpoint_id"] = checkpoint_id
            statement = _with_any_event(change, beside)
        return connection.execute(statement, given).scalar_one_or_none()
    numbered = _numbered(change).returning(*_TOLD_OF_A_JOB)
    changed = connection.execute(numbered, parameters or {}).one_or_none()
    if changed is None:
        return None
    event = {
        "job_id": changed.id,
        "seq": changed.event_seq,
        "at": now(),
        "type": event_type,
        "state": shown_state(changed.state, changed.desired),
        "lease_epoch": changed.lease_epoch,
    }
    connection.execute(insert(JobEvent).values(event | told))
    tell_of_work(session, changed, checkpoint_id)
    for other in beside:
        connection.execute(other, parameters or {})
    return int(changed.event_seq)


def with_its_event(change: Update, *, checkpoint_id: ColumnElement[Any] | None = None, **told: Any) -> Insert:
    """Build one statement that changes a job and writes the event, and that of the yard, as PostgreSQL can.

    Args:
        change: as in `change_and_tell`.
        checkpoint_id: as there; null in the database for most events.
        told: `type`, `reason`, `worker_id`, `request_id` and `data`; values, or expressions.
    """
    changed = _numbered(change).returning(*_TOLD_OF_A_JOB).cte("changed")
    event: dict[str, Any] = {
        "job_id": changed.c.id,
        "seq": changed.c.event_seq,
        "at": now(),
        "state": _show_state(changed.c.state, changed.c.desired),
        "lease_epoch": changed.c.lease_epoch,
    } | told
    columns = [
        value if isinstance(value, ColumnElement) else literal(value, JobEvent.__table__.c[name].type)
        for name, value in event.items()
    ]
    logged = insert(JobEvent).from_select(list(event), select(*columns))
    return logged.add_cte(with_entry(changed, checkpoint_id).cte("noted"))


@lru_cache(maxsize=64)
def _with_any_event(change: Update, beside: tuple[Insert | Update, ...]) -> ReturningInsert[int]:
    columns = (JobEvent.__table__.c[name] for name in ("type", "reason", "worker_id", "request_id", "data"))
    told = {column.name: bindparam(f"told_{column.name}", type_=column.type) for column in columns}
    checkpoint_id = bindparam("told_checkpoint_id", type_=_TEXT)
    logged = with_its_event(change, checkpoint_id=checkpoint_id, **told)
    ctes = [statement.cte(f"beside_{number}") for number, statement in enumerate(beside)]
    return logged.add_cte(*ctes).returning(JobEvent.seq).execution_options(**REPEATED)


def _show_state(state: ColumnElement[JobState], desired: ColumnElement[Desired]) -> ColumnElement[Any]:
    """Build the expression of `states.shown_state` for the database."""
    otherwise = (
        (and_(state == pair[0], desired == pair[1]), literal_column(f"'{shown}'", _TEXT))
        for pair, shown in _SHOWN_OTHERWISE
    )
    return case(*otherwise, else_=state)


def _numbered(change: Update) -> Update:
    return change.values(event_seq=Job.event_seq + literal_column("1"))


def list_state_changes(session: Session, job_ids: Iterable[str]) -> dict[str, list[StateChange]]:
    """Return the state changes of several jobs, oldest first."""
    changes: dict[str, list[StateChange]] = {job_id: [] for job_id in job_ids}
    for job_id, seq, state, at, reason in session.connection().execute(_STATE_CHANGES, {"job_ids": list(changes)}):
        changes[job_id].append(StateChange(seq, state, at, reason))
    return changes


def has_event(session: Session, job_id: str, event_type: EventType, reason: str) -> bool:
    """Whether a job's log contains such an event."""
    query = select(JobEvent.seq).where(
        JobEvent.job_id == job_id, JobEvent.type == event_type, JobEvent.reason == reason
    )
    return session.scalar(query.limit(1)) is not None
