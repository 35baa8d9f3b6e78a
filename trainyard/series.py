"""The series of a job as its trainer reported them: points by step and by epoch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from trainyard.tables import JobMetric

Points = list[dict[str, Any]]

#: What marks a series' best points: a thinned one keeps the lowest or highest of each.
_BEST = {"interval": (("train_loss", min),), "epoch": (("train_loss", min), ("val_loss", min), ("val_top1", max))}
MIN_POINTS = 10


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


def read_thinned(session: Session, job_id: str, kind: str, *, since: int, max_points: int) -> tuple[Points, int]:
    """At most so many points of a series, evenly chosen by the database, so that a long one is never read whole.

    The first, the last, and the best ones (lowest losses, highest `val_top1`) are always among them.

    Args:
        session: any.
        job_id: whose.
        kind: `interval` or `epoch`.
        since: the first step that is wanted.
        max_points: at least `MIN_POINTS`.

    Returns:
        The points in the order of their steps, and how many there are unthinned.
    """
    assert max_points >= MIN_POINTS
    wanted = (JobMetric.job_id == job_id, JobMetric.kind == kind, JobMetric.step >= since)
    count, last = session.execute(select(func.count(), func.max(JobMetric.step)).where(*wanted)).one()
    query = select(JobMetric.step, JobMetric.epoch, JobMetric.data).where(*wanted)
    if count > max_points:
        kept = {last} | {_find_best(session, wanted, name, best is max) for name, best in _BEST[kind]} - {None}
        stride = -(-count // (max_points - len(kept)))
        place = func.row_number().over(order_by=JobMetric.step)
        numbered = select(JobMetric.step, place.label("place")).where(*wanted).subquery()
        regular = select(numbered.c.step).where((numbered.c.place - 1) % stride == 0)
        query = query.where(or_(JobMetric.step.in_(regular), JobMetric.step.in_(kept)))
    rows = session.execute(query.order_by(JobMetric.step))
    return [{"step": step, "epoch": epoch} | data for step, epoch, data in rows], count


def _find_best(session: Session, wanted: tuple[ColumnElement[bool], ...], name: str, highest: bool) -> int | None:
    value = JobMetric.data[name].as_float()
    query = select(JobMetric.step).where(*wanted, value.is_not(None))
    # of several with the highest accuracy the one with the lowest loss: that is the job's best epoch
    order = [value.desc(), JobMetric.data["val_loss"].as_float().nulls_last()] if highest else [value]
    return session.scalar(query.order_by(*order, JobMetric.step).limit(1))
