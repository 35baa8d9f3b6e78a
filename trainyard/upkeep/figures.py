"""A yard in figures, for monitoring: how much work there is in each state, the workers, and the outbox.

The queries read indexes or small tables, so that asking every few seconds costs nothing that is felt.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, case, func, or_, select
from sqlalchemy.orm import Session

from trainyard.artifacts.checkpoints import get_latest
from trainyard.database.connection import now, read_clock
from trainyard.database.tables import LOCAL_OWNER, Dataset, Job, Outbox, Worker
from trainyard.errors import NoCheckpoint
from trainyard.scheduling.workers import LISTED_S, WorkerState, count_slots, state_of
from trainyard.states import DatasetState, JobState, WorkKind


@dataclass(frozen=True)
class YardFigures:
    """What was read. Every possible state and kind is there, with 0 if nothing is in it."""

    jobs: dict[tuple[str, str], int]  #: (kind, state) -> rows
    oldest_queued_s: dict[str, float]  #: kind -> age of the work that was queued first and may be claimed; 0: none
    images_per_s: float  #: of all running jobs together
    outbox: int  #: messages that are due and not sent
    oldest_outbox_s: float  #: age of the first of them; 0: there is none
    workers: dict[str, int]  #: state -> workers; those gone for over an hour are left out
    slots: int  #: of live workers
    slots_busy: int  #: that train a job
    datasets: dict[str, int]  #: state -> datasets, deleted ones left out
    publication: int  #: number of the newest published checkpoint; 0: there is none


def read_figures(session: Session) -> YardFigures:
    """Read all figures in one transaction."""
    moment = read_clock(session)
    messages, first_at = session.execute(_due_messages()).one()
    rates = _read_rates(session)
    return YardFigures(
        jobs=_count_jobs(session),
        oldest_queued_s=_find_oldest(session, moment),
        images_per_s=sum(rates),
        outbox=messages,
        oldest_outbox_s=0.0 if first_at is None else max(0.0, moment - first_at),
        workers=_count_workers(session, moment),
        slots=count_slots(session),
        slots_busy=len(rates),
        datasets=_count_datasets(session),
        publication=_find_publication(session),
    )


def _due_messages() -> Select[Any, Any]:
    """Select how many messages are due, and when the first became so: that of a job which waits is sent later."""
    due_at = case((Job.not_before > Outbox.created_at, Job.not_before), else_=Outbox.created_at)
    due = or_(Job.id.is_(None), Job.not_before <= now())
    return select(func.count(), func.min(due_at)).select_from(Outbox).outerjoin(Job, Job.id == Outbox.job_id).where(due)


def _count_jobs(session: Session) -> dict[tuple[str, str], int]:
    counts = {(kind.value, state.value): 0 for kind in WorkKind for state in JobState}
    for kind, state, number in session.execute(select(Job.kind, Job.state, func.count()).group_by(Job.state, Job.kind)):
        counts[kind.value, state.value] = number
    return counts


def _find_oldest(session: Session, moment: float) -> dict[str, float]:
    oldest = {kind.value: 0.0 for kind in WorkKind}
    due = (Job.state == JobState.QUEUED, Job.not_before <= moment)
    for kind, queued_at in session.execute(select(Job.kind, func.min(Job.queued_at)).where(*due).group_by(Job.kind)):
        oldest[kind.value] = max(0.0, moment - queued_at)
    return oldest


def _read_rates(session: Session) -> list[float]:
    """Return for each running job the images a second that it last reported; 0: none yet."""
    running = select(Job.progress).where(Job.state == JobState.RUNNING, Job.kind == WorkKind.TRAIN)
    return [float((progress or {}).get("images_per_s") or 0.0) for progress in session.scalars(running)]


def _count_workers(session: Session, moment: float) -> dict[str, int]:
    counts = {state.value: 0 for state in WorkerState}
    seen_at = func.coalesce(Worker.stopped_at, Worker.last_seen_at)
    for worker in session.scalars(select(Worker).where(seen_at > now() - LISTED_S)):
        counts[state_of(worker, moment).value] += 1
    return counts


def _count_datasets(session: Session) -> dict[str, int]:
    counts = {state.value: 0 for state in DatasetState if state is not DatasetState.DELETED}
    there = select(Dataset.state, func.count()).where(Dataset.state != DatasetState.DELETED)
    for state, number in session.execute(there.group_by(Dataset.state)):
        counts[state.value] = number
    return counts


def _find_publication(session: Session) -> int:
    try:
        return get_latest(session, LOCAL_OWNER).publication or 0
    except NoCheckpoint:
        return 0
