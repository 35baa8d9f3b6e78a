"""Writes a job's event log: state changes, requests, checkpoints and warnings, numbered without gaps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from sqlalchemy import Update, bindparam, insert, select, update
from sqlalchemy.orm import Session

from trainyard.database.connection import now
from trainyard.database.tables import Job, JobEvent
from trainyard.logs import request_id
from trainyard.states import EventType, ShownState, shown_state


class StateChange(NamedTuple):
    """The content of an event of the type `state`."""

    seq: int
    state: ShownState
    at: float
    reason: str | None


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
) -> int | None:
    """Change one job, and write the next event of its log.

    Args:
        session: a writing one.
        change: an UPDATE of one row of `jobs`.
        event_type: of the event, as what follows.
        reason: machine-readable.
        worker_id: who changes it, where a worker does.
        data: what else there is to say.

    Returns:
        The event's number, from 1; None: no row matched, and nothing was written.
    """
    numbered = change.values(event_seq=Job.event_seq + 1).returning(
        Job.id, Job.event_seq, Job.state, Job.desired, Job.lease_epoch
    )
    changed = session.execute(numbered.execution_options(synchronize_session=False)).one_or_none()
    if changed is None:
        return None
    event = {
        "job_id": changed.id,
        "seq": changed.event_seq,
        "at": now(),
        "type": event_type,
        "state": shown_state(changed.state, changed.desired),
        "reason": reason,
        "lease_epoch": changed.lease_epoch,
        "worker_id": worker_id,
        "request_id": request_id.get(),
        "data": data or {},
    }
    session.execute(insert(JobEvent).values(event))
    return int(changed.event_seq)


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
