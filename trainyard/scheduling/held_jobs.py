"""Finds the job that a worker's slot has according to the database."""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, bindparam, select
from sqlalchemy.orm import Session, joinedload

from trainyard.database.tables import Job
from trainyard.scheduling.leases import Lease
from trainyard.states import JobState, WorkKind


def find_held(
    session: Session, worker_id: str, *, slot: int, kind: WorkKind = WorkKind.TRAIN
) -> tuple[Job, Lease] | None:
    """Return the job, with its lease, that a worker's slot has according to the database. None: it has none."""
    given = {"of_worker": worker_id, "of_slot": slot, "of_kind": kind}
    job = session.scalars(_HELD, given).one_or_none()
    return None if job is None else (job, Lease(job.id, job.lease_epoch, worker_id))


def holds(job: type[Job], worker_id: Any, slot: Any, kind: Any) -> ColumnElement[bool]:
    """Build the condition that a job runs in a worker's slot. It is found by the worker, as few jobs have one.

    The state is asked for in a way that no index answers: after a burst of claims PostgreSQL still believes that hardly
    any job runs, and would look at all that do.
    """
    runs = job.state.not_in([state for state in JobState if state is not JobState.RUNNING])
    return and_(job.lease_owner == worker_id, job.slot == slot, job.kind == kind, runs)


_OF_SLOT: Any = (bindparam(name) for name in ("of_worker", "of_slot", "of_kind"))
_HELD = select(Job).where(holds(Job, *_OF_SLOT)).options(joinedload(Job.dataset))
