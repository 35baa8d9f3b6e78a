"""Workers in the database: which there are, their slots and jobs, and when they were last seen."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Select, delete, func, or_, select, update
from sqlalchemy.orm import Session

from trainyard.build import build_id
from trainyard.database.connection import now, update_rows
from trainyard.database.pages import Page, get_page
from trainyard.database.schema import newest_revision
from trainyard.database.tables import Job, Worker
from trainyard.states import JobState, WorkKind

SEEN_WITHIN_S = 15.0
LISTED_S = 3600.0  # a worker that is gone is listed for so long, unless it is asked for by its state
FORGOTTEN_AFTER_S = 86400.0  # then it goes out of the database


class WorkerState(StrEnum):
    """The state of a worker. It is not stored but follows from its row and the clock."""

    LIVE = "live"  #: was seen just now and takes jobs
    DRAINING = "draining"  #: was seen just now and takes no more jobs
    LOST = "lost"  #: was not seen for a while: dead, frozen, or cut off from the database
    STOPPED = "stopped"  #: ended normally


@dataclass(frozen=True)
class WorkerIdentity:
    """What a worker says about itself."""

    id: str
    host: str
    pid: int
    devices: tuple[str, ...]  #: one a slot: `cpu`, `cuda:0`


@dataclass(frozen=True)
class DeviceReading:
    """A device, and how full and how busy it is. None: the driver does not tell."""

    name: str | None  #: as its maker calls it
    memory_bytes: int | None
    memory_used_bytes: int | None  #: by all processes on it, also by those that are not of the yard
    utilisation: float | None  #: the fraction of the last second or less in which it computed, from 0 to 1


Readings = Sequence[DeviceReading | None]  #: one a slot; None: nothing is known of its device


def register(session: Session, identity: WorkerIdentity, readings: Readings = ()) -> None:
    """Register a worker that starts."""
    session.add(
        Worker(
            id=identity.id,
            host=identity.host,
            pid=identity.pid,
            slots=len(identity.devices),
            devices=list(identity.devices),
            device_readings=_stored(readings),
            version=build_id(),
            revision=newest_revision(),
            started_at=now(),
            last_seen_at=now(),
        )
    )


def mark_seen(session: Session, identity: WorkerIdentity, *, draining: bool, readings: Readings = ()) -> None:
    """Record a heartbeat. A worker that was removed from the table registers again."""
    told = {"last_seen_at": now(), "draining": draining, "device_readings": _stored(readings)}
    if update_rows(session, update(Worker).where(Worker.id == identity.id).values(told)) == 0:
        register(session, identity, readings)


def readings_of(worker: Worker) -> list[DeviceReading | None]:
    """Return what a worker's last heartbeat told of the device of each slot."""
    stored = worker.device_readings or [None] * worker.slots
    return [None if reading is None else DeviceReading(**reading) for reading in stored]


def mark_stopped(session: Session, worker_id: str) -> None:
    """Record that a worker ended normally."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(stopped_at=now(), draining=True))


def follow_clock_back(session: Session, moment: float, ttl_s: float) -> int:
    """Correct heartbeats and ends that are too far in the future because the database's clock was set back.

    Otherwise a dead worker would count as live until the clock is where it was, and a stopped one would be listed until
    an hour after that. A live worker writes its next heartbeat within seconds.

    Args:
        session: a writing one.
        moment: by the database's clock.
        ttl_s: what lies less far in the future is left to itself.

    Returns:
        The number of workers that were touched.
    """
    seen = update(Worker).where(Worker.last_seen_at > moment + ttl_s).values(last_seen_at=moment - SEEN_WITHIN_S)
    stopped = update(Worker).where(Worker.stopped_at > moment + ttl_s).values(stopped_at=moment)
    return sum(
        update_rows(session, statement.execution_options(synchronize_session=False)) for statement in (seen, stopped)
    )


def count_live(session: Session, *, pid: int | None = None) -> int:
    """Count the workers that were seen just now and take jobs; with `pid`, only the one that is this process."""
    query = count_workers()
    if pid is not None:
        query = query.where(Worker.pid == pid)
    return int(session.scalar(query) or 0)


def count_workers() -> Select[int]:
    """Build the query of `count_live`."""
    return select(func.count()).select_from(Worker).where(_is_live())


def count_of_this_release() -> Select[int]:
    """Build the same query for only those workers that can take jobs from these tables."""
    return count_workers().where(Worker.revision == newest_revision())


def count_slots(session: Session) -> int:
    """Count the slots of all live workers."""
    return int(session.scalar(select(func.coalesce(func.sum(Worker.slots), 0)).where(_is_live())) or 0)


def list_live_devices(session: Session) -> set[tuple[str, str]]:
    """Return host and device of every slot of the live workers."""
    rows = session.execute(select(Worker.host, Worker.devices).where(_is_live()))
    return {(host, str(device)) for host, devices in rows for device in devices}


def state_of(worker: Worker, moment: float) -> WorkerState:
    """Return the state of a worker at a moment, by the database's clock."""
    if worker.stopped_at is not None:
        return WorkerState.STOPPED
    if worker.last_seen_at <= moment - SEEN_WITHIN_S:
        return WorkerState.LOST
    return WorkerState.DRAINING if worker.draining else WorkerState.LIVE


def list_workers(
    session: Session, *, limit: int, after: str | None, states: Collection[WorkerState] = ()
) -> Page[Worker]:
    """Return a page of workers, newest first: those in one of some states, or all that are not gone for over an hour.

    Raises:
        InvalidRequest: `after` names no worker.
    """
    ended_at = func.coalesce(Worker.stopped_at, Worker.last_seen_at)
    wanted = or_(*map(_is, states)) if states else ended_at > now() - LISTED_S
    return get_page(session, select(Worker).where(wanted), Worker, limit=limit, after=after, visible=select(Worker))


def count_by_state(session: Session) -> dict[WorkerState, int]:
    """Count the workers of the last day in each state. A state without workers is 0."""
    counts = session.execute(select(*(func.count().filter(_is(state)) for state in WorkerState)).select_from(Worker))
    return dict(zip(WorkerState, counts.one(), strict=True))


def list_held_jobs(session: Session, worker_ids: Iterable[str]) -> dict[str, list[Job]]:
    """Return the running jobs of several workers, as they are now: the session may have read them before."""
    held: dict[str, list[Job]] = {worker_id: [] for worker_id in worker_ids}
    query = select(Job).where(Job.state == JobState.RUNNING, Job.kind == WorkKind.TRAIN, Job.lease_owner.in_(held))
    for job in session.scalars(query.execution_options(populate_existing=True)):
        held[str(job.lease_owner)].append(job)
    return held


def forget_gone(session: Session) -> None:
    """Remove every worker from the database that has been gone for a day."""
    gone = Worker.last_seen_at < now() - FORGOTTEN_AFTER_S
    session.execute(delete(Worker).where(gone).execution_options(synchronize_session=False))


def _is(state: WorkerState) -> ColumnElement[bool]:
    """Return the condition for the rows that `state_of` finds in a state."""
    unseen = Worker.last_seen_at <= now() - SEEN_WITHIN_S
    if state is WorkerState.STOPPED:
        return Worker.stopped_at.is_not(None)
    if state is WorkerState.LOST:
        return Worker.stopped_at.is_(None) & unseen
    return Worker.stopped_at.is_(None) & ~unseen & Worker.draining.is_(state is WorkerState.DRAINING)


def _is_live() -> ColumnElement[bool]:
    return _is(WorkerState.LIVE)


def _stored(readings: Readings) -> list[dict[str, Any] | None] | None:
    if not any(readings):
        return None
    return [None if reading is None else asdict(reading) for reading in readings]
