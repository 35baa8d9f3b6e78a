"""What a job's trainers measured and wrote.

`/jobs/{job_id}/metrics`: the series of a run. `/logs`: the log of its trainers.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel
from starlette.responses import PlainTextResponse, Response

from alexnet_core.layout import log_key
from api.http import errors
from api.routes.queries import JobPath
from api.schemas.base import DESCRIBED
from api.services import CallerDep, ServicesDep
from trainyard.errors import DatabaseUnavailable, InvalidRequest, JobNotFound, StorageUnavailable
from trainyard.jobs import job_log, jobs
from trainyard.jobs.metrics import MIN_POINTS, read_thinned
from trainyard.json_values import finite
from trainyard.states import MetricKind

router = APIRouter(prefix="/jobs", tags=["jobs"])

MAX_STEP = 2**62


class MetricsRead(BaseModel):
    """Both series of a job, in the order of their steps; each point has `step` and `epoch`."""

    model_config = DESCRIBED

    object: Literal["metrics"] = "metrics"
    job: str
    by_step: list[dict[str, Any]]
    """Every few steps: `train_loss`, `lr`, `images_per_s`."""
    by_epoch: list[dict[str, Any]]
    """At the end of each epoch: `train_loss`, `val_loss`, `val_top1`, `val_top5`, `seconds`."""
    last_step: int | None
    """The newest step here, for the next `after`. Null: there is nothing new."""
    thinned: bool
    """Whether there are more points than these."""


@router.get(
    "/{job_id}/metrics",
    summary="Get a job's series",
    response_model=MetricsRead,
    responses=errors.responses(JobNotFound, InvalidRequest, DatabaseUnavailable),
)
def get_job_metrics(
    job_id: JobPath,
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[int, Query(ge=-1, le=MAX_STEP, description="`last_step` of the previous answer.")] = -1,
    max_points: Annotated[int, Query(ge=MIN_POINTS, le=5000, description="Most points of each series.")] = 500,
) -> Response:
    """Return loss, learning rate and speed by step, losses and accuracies by epoch; null if not a number.

    Longer series are thinned evenly by step; the first, the last and the best points (lowest losses, highest
    `val_top1`) stay. An epoch's point may be written after the interval's of the same step, so those of the step
    `after` are returned once more.
    """
    with services.database.reading() as session:
        jobs.read_job(session, caller, job_id)
        by_step, more_steps = read_thinned(session, job_id, MetricKind.INTERVAL, since=after + 1, max_points=max_points)
        by_epoch, more_epochs = read_thinned(
            session, job_id, MetricKind.EPOCH, since=max(0, after), max_points=max_points
        )
    newest = [points[-1]["step"] for points in (by_step, by_epoch) if points]
    found = MetricsRead(
        job=job_id,
        by_step=[finite(point) for point in by_step],
        by_epoch=[finite(point) for point in by_epoch],
        last_step=max(newest, default=None),
        thinned=more_steps or more_epochs,
    )
    return Response(found.model_dump_json(), media_type="application/json")


@router.get(
    "/{job_id}/logs",
    summary="Read a job's log",
    response_class=Response,
    response_description="Plain text, the oldest line first.",
    responses=errors.responses(
        *(JobNotFound, InvalidRequest, DatabaseUnavailable, StorageUnavailable),
        success={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    ),
)
def get_job_log(
    job_id: JobPath,
    services: ServicesDep,
    caller: CallerDep,
    tail: Annotated[int, Query(ge=1, le=10_000, description="Most lines, counted from the end.")] = 200,
) -> Response:
    """Return the last lines that the job's trainers wrote in all attempts; empty if there are none.

    At most 4 MiB. With an object store the lines of a running job appear a few seconds late.
    """
    with services.database.reading() as session:
        job = jobs.get_job(session, caller, job_id)
    text = job_log.read_tail(services.storage, log_key(job.id), lines=tail)
    return PlainTextResponse(text.decode("utf-8", "replace"), headers={"Cache-Control": "no-cache"})
