"""Reads jobs' event logs: page by page after a number, and the new events of many logs at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from sqlalchemy import and_, or_, select
from sqlalchemy.orm import Session

from trainyard.database.pages import Page
from trainyard.database.tables import Job, JobEvent

Item = TypeVar("Item")

_JOBS_PER_QUERY = 200  # far below SQLite's limits for variables and for the depth of an expression


@dataclass(frozen=True)
class Head:
    """The end of a job's log: the number of its newest event, and whether the job can still change."""

    seq: int
    is_final: bool

    @classmethod
    def of(cls, job: Job) -> Head:
        """Build it from a row."""
        return cls(job.event_seq, job.state.is_final)


def list_events(session: Session, job_id: str, *, after: int, limit: int) -> Page[JobEvent]:
    """Return the events after a number, oldest first."""
    query = select(JobEvent).where(JobEvent.job_id == job_id, JobEvent.seq > after).order_by(JobEvent.seq)
    rows = session.scalars(query.limit(limit + 1)).all()
    return Page(items=list(rows[:limit]), has_more=len(rows) > limit)


def list_newest_events(session: Session, job_id: str, *, before: int | None, limit: int) -> Page[JobEvent]:
    """Return the newest events before a number, the newest first; None: all."""
    query = select(JobEvent).where(JobEvent.job_id == job_id).order_by(JobEvent.seq.desc())
    if before is not None:
        query = query.where(JobEvent.seq < before)
    rows = session.scalars(query.limit(limit + 1)).all()
    return Page(items=list(rows[:limit]), has_more=len(rows) > limit)


def read_heads(session: Session, job_ids: Iterable[str]) -> dict[str, Head]:
    """Read the ends of the logs of many jobs. Deleted jobs are left out."""
    heads: dict[str, Head] = {}
    for some in _portions(job_ids):
        query = select(Job.id, Job.event_seq, Job.state).where(Job.id.in_(some))
        heads |= {job_id: Head(seq, state.is_final) for job_id, seq, state in session.execute(query)}
    return heads


def list_new_events(session: Session, known: Mapping[str, int]) -> dict[str, list[JobEvent]]:
    """Return the new events of many jobs, each after the last number known, oldest first."""
    events: dict[str, list[JobEvent]] = {job_id: [] for job_id in known}
    for some in _portions(known.items()):
        after = or_(*(and_(JobEvent.job_id == job_id, JobEvent.seq > seq) for job_id, seq in some))
        for event in session.scalars(select(JobEvent).where(after).order_by(JobEvent.job_id, JobEvent.seq)):
            events[event.job_id].append(event)
    return events


def _portions(items: Iterable[Item]) -> Iterator[list[Item]]:
    rest = iter(items)
    while portion := list(islice(rest, _JOBS_PER_QUERY)):
        yield portion
