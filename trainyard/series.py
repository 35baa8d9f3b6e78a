"""The series of a job as its trainer reported them: points by step and by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from trainyard.tables import JobMetric

Points = list[dict[str, Any]]


@dataclass(frozen=True)
class Series:
    """Both series of a job, in the order of their steps; a point has `step`, `epoch` and its values."""

    by_step: Points
    by_epoch: Points


def read_series(session: Session, job_id: str) -> Series:
    """All points of a job."""
    query = select(JobMetric.kind, JobMetric.step, JobMetric.epoch, JobMetric.data).where(JobMetric.job_id == job_id)
    points: dict[str, Points] = {"interval": [], "epoch": []}
    for kind, step, epoch, data in session.execute(query.order_by(JobMetric.step)):
        points[kind].append({"step": step, "epoch": epoch} | data)
    return Series(by_step=points["interval"], by_epoch=points["epoch"])


def read_version(session: Session, job_id: str) -> tuple[tuple[Any, ...], ...]:
    """What is another whenever a point was added or replaced; far cheaper than the points.

    A point is only ever replaced under a later lease, so that the number of points of some lease changes.
    """
    query = select(JobMetric.lease_epoch, JobMetric.kind, func.count()).where(JobMetric.job_id == job_id)
    groups = query.group_by(JobMetric.lease_epoch, JobMetric.kind).order_by(JobMetric.lease_epoch, JobMetric.kind)
    return tuple(tuple(row) for row in session.execute(groups))
