"""A job's series as clients see them, thinned by the database."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy.orm import Session

from api.schemas.runs.series import SeriesRead
from trainyard.jobs.metrics import read_thinned
from trainyard.json_values import finite
from trainyard.states import MetricKind


@dataclass(frozen=True)
class Section:
    """The part of the series that is wanted."""

    after: int = -1  #: only what is newer than this step; an epoch that ended at it may have come later
    from_step: int = 0
    to_step: int | None = None  #: None: to the end
    max_points: int = 500
    band: bool = False  #: with the lowest and the highest loss that a point stands for


def read_section(session: Session, job_id: str, section: Section) -> SeriesRead:
    """Read a part of both series of a job."""
    steps, epochs = (
        read_thinned(
            session,
            job_id,
            kind,
            since=max(since, section.from_step),
            until=section.to_step,
            max_points=section.max_points,
            band=section.band and kind is MetricKind.INTERVAL,
        )
        for kind, since in ((MetricKind.INTERVAL, section.after + 1), (MetricKind.EPOCH, section.after))
    )
    newest = [points[-1]["step"] for points, _ in (steps, epochs) if points]
    return SeriesRead(
        by_step=[finite(point) for point in steps[0]],
        by_epoch=[finite(point) for point in epochs[0]],
        last_step=max(newest, default=None),
        thinned=steps[1] or epochs[1],
    )
