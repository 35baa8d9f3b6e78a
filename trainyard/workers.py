"""Workers in the books: who is there, with how many slots, and when it was last seen."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.orm import Session

from trainyard import __version__
from trainyard.database import now
from trainyard.tables import Worker

SEEN_WITHIN_S = 15.0


@dataclass(frozen=True)
class WorkerIdentity:
    """What a worker says of itself."""

    id: str
    host: str
    pid: int
    devices: tuple[str, ...]  #: one a slot: `cpu`, `cuda:0`


def register(session: Session, identity: WorkerIdentity) -> None:
    """Enter a worker that begins."""
    session.add(
        Worker(
            id=identity.id,
            host=identity.host,
            pid=identity.pid,
            slots=len(identity.devices),
            devices=list(identity.devices),
            version=__version__,
            started_at=now(),
            last_seen_at=now(),
        )
    )


def mark_seen(session: Session, worker_id: str, *, draining: bool) -> None:
    """Write a sign of life."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(last_seen_at=now(), draining=draining))


def mark_stopped(session: Session, worker_id: str) -> None:
    """Write that a worker ended in order."""
    session.execute(update(Worker).where(Worker.id == worker_id).values(stopped_at=now(), draining=True))


def count_live(session: Session, *, pid: int | None = None) -> int:
    """Workers that were seen just now and take jobs; with `pid`, only the one that is this process."""
    query = select(func.count()).select_from(Worker).where(_is_live())
    if pid is not None:
        query = query.where(Worker.pid == pid)
    return int(session.scalar(query) or 0)


def is_host_live(session: Session, host: str) -> bool:
    """Whether a worker on this machine was seen just now."""
    return session.scalar(select(Worker.id).where(Worker.host == host, _is_live()).limit(1)) is not None


def count_slots(session: Session) -> int:
    """Slots of all live workers."""
    return int(session.scalar(select(func.coalesce(func.sum(Worker.slots), 0)).where(_is_live())) or 0)


def _is_live() -> ColumnElement[bool]:
    return Worker.stopped_at.is_(None) & Worker.draining.is_(False) & (Worker.last_seen_at > now() - SEEN_WITHIN_S)
