"""The series of a job that its trainer reported: points by step and by epoch."""

from __future__ import annotations

import sys
from bisect import bisect_left, bisect_right
from dataclasses import dataclass
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, func, literal, select
from sqlalchemy.orm import Session

from trainyard.database.tables import JobMetric
from trainyard.states import MetricKind

Points = list[dict[str, Any]]

#: What marks a series' best points: a thinned one keeps the lowest or highest of each.
_BEST = {
    MetricKind.INTERVAL: (("train_loss", min),),
    MetricKind.EPOCH: (("train_loss", min), ("val_loss", min), ("val_top1", max)),
}
MIN_POINTS = 10
_PARTS_A_POINT = 4  # of the steps, for a band


@dataclass(frozen=True)
class Series:
    """Both series of a job in the order of their steps. A point has `step`, `epoch` and its values."""

    by_step: Points
    by_epoch: Points


def read_series(session: Session, job_id: str) -> Series:
    """Read all points of a job."""
    query = select(JobMetric.kind, JobMetric.step, JobMetric.epoch, JobMetric.data).where(JobMetric.job_id == job_id)
    points: dict[MetricKind, Points] = {kind: [] for kind in MetricKind}
    for kind, step, epoch, data in session.execute(query.order_by(JobMetric.step)):
        points[kind].append({"step": step, "epoch": epoch} | data)
    return Series(by_step=points[MetricKind.INTERVAL], by_epoch=points[MetricKind.EPOCH])


def read_version(session: Session, job_id: str) -> tuple[tuple[Any, ...], ...]:
    """Read a version that changes whenever a point is added or replaced, which costs far less than the points.

    A point is only ever replaced under a later lease, so that the number of points of some lease changes.
    """
    query = select(JobMetric.lease_epoch, JobMetric.kind, func.count()).where(JobMetric.job_id == job_id)
    groups = query.group_by(JobMetric.lease_epoch, JobMetric.kind).order_by(JobMetric.lease_epoch, JobMetric.kind)
    return tuple(tuple(row) for row in session.execute(groups))


def read_thinned(
    session: Session,
    job_id: str,
    kind: MetricKind,
    *,
    since: int,
    max_points: int,
    until: int | None = None,
    band: bool = False,
) -> tuple[Points, bool]:
    """Read at most `max_points` points of a series. The cost depends only on that number, unless `band` is wanted.

    They lie evenly over the steps. The first, the last, and the best ones (lowest losses, highest `val_top1`) are
    always among them.

    Args:
        session: any.
        job_id: whose.
        kind: of the series.
        since: the first step that is wanted.
        max_points: at least `MIN_POINTS`.
        until: the last step that is wanted; None: to the end.
        band: add `train_loss_min` and `train_loss_max` of the points that each one stands for. All points between the
            first and the last step are read for it.

    Returns:
        The points in the order of their steps, and whether there are more.
    """
    assert max_points >= MIN_POINTS
    series = (JobMetric.job_id == job_id, JobMetric.kind == kind)
    wanted: tuple[ColumnElement[bool], ...] = (*series, JobMetric.step >= since)
    if until is not None:
        wanted = (*wanted, JobMetric.step <= until)
    query = select(JobMetric.step, JobMetric.epoch, JobMetric.data).where(*wanted).order_by(JobMetric.step)
    beyond = select(JobMetric.step).where(*wanted).order_by(JobMetric.step).offset(max_points).limit(1)
    is_long = session.scalar(beyond) is not None
    if is_long:
        first, last = (session.scalar(select(end(JobMetric.step)).where(*wanted)) or 0 for end in (func.min, func.max))
        kept = {last} | {_find_best(session, wanted, name, best is max) for name, best in _BEST[kind]} - {None}
        kept |= set(session.scalars(_evenly(series, first, last, max_points - len(kept))))
        query = query.where(JobMetric.step.in_(kept))
    points = [{"step": step, "epoch": epoch} | data for step, epoch, data in session.execute(query)]
    if band and points:
        _add_band(session, wanted, points, _PARTS_A_POINT * max_points)
    return points, is_long


def _add_band(session: Session, wanted: tuple[ColumnElement[bool], ...], points: Points, parts: int) -> None:
    """Add the lowest and the highest loss to each point: of its own, and of all from it to the next point.

    Args:
        session: any.
        wanted: which points there are.
        points: the ones that were kept, in the order of their steps.
        parts: of equal length, into which the steps are cut: the database gives the band of each.
    """
    first, length = points[0]["step"], points[-1]["step"] - points[0]["step"] + 1
    part = (JobMetric.step - first) * literal(parts, BigInteger) // literal(length, BigInteger)
    loss = JobMetric.train_loss.expression
    groups = select(part.label("part"), func.min(loss), func.max(loss)).where(*wanted, loss.is_not(None))
    own = [(point["step"] - first) * parts // length for point in points]
    losses: list[list[float]] = [[] for _ in points]
    for number, *band in session.execute(groups.group_by("part")):
        last = bisect_right(own, number) - 1
        for place in range(min(last, bisect_left(own, number)), last + 1):
            losses[place] += band
    for point, band in zip(points, losses, strict=True):
        point["train_loss_min"], point["train_loss_max"] = min(band, default=None), max(band, default=None)


def _evenly(series: tuple[ColumnElement[bool], ...], first: int, last: int, count: int) -> Select[int]:
    """Return points at evenly spaced steps from the first to the last, or the next points after them.

    Each is found by a search.
    """
    places = select(literal(0).label("number")).cte("places", recursive=True)
    places = places.union_all(select(places.c.number + 1).where(places.c.number < count - 1))
    place = first + places.c.number * literal(last - first, BigInteger) // count
    # with a second bound on the step SQLite might take that one to begin its search at
    nearest = select(func.min(JobMetric.step)).where(*series, JobMetric.step >= place).correlate(places)
    return select(nearest.scalar_subquery()).select_from(places)


def _find_best(session: Session, wanted: tuple[ColumnElement[bool], ...], name: str, highest: bool) -> int | None:
    value: ColumnElement[Any] = JobMetric.data[name].as_float()
    if name == "train_loss":  # a series by step is long: this one is found by an index
        value = JobMetric.train_loss.expression
    query = select(JobMetric.step).where(*wanted, value >= -sys.float_info.max)
    # of several with the highest accuracy the one with the lowest loss: that is the job's best epoch
    order = [value.desc(), JobMetric.data["val_loss"].as_float().nulls_last()] if highest else [value]
    return session.scalar(query.order_by(*order, JobMetric.step).limit(1))
