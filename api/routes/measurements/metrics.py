"""`/jobs/{job_id}/metrics`: the series of a run; `/series`: those of several runs."""

from __future__ import annotations

from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.validators import NOT_MODIFIED, IfNoneMatch, answer_json
from api.routes.queries import JobPath
from api.schemas.runs.series import MetricsRead, SeriesOfJobs
from api.series_reader import Section, read_section
from api.services import CallerDep, Services, ServicesDep
from trainyard.errors import DatabaseUnavailable, InvalidRequest, JobNotFound
from trainyard.jobs import jobs
from trainyard.jobs.metrics import MIN_POINTS

router = APIRouter(tags=["jobs"], route_class=GuardedRoute)

MAX_STEP = 2**62
MAX_JOBS = 20

PointsQuery = Annotated[int, Query(ge=MIN_POINTS, le=5000, description="Most points of each series.")]
BandQuery = Annotated[
    bool, Query(description="Also the lowest and the highest training loss of the points that each one stands for.")
]


@router.get(
    "/jobs/{job_id}/metrics",
    summary="Get a job's series",
    response_model=MetricsRead,
    responses=errors.responses(JobNotFound, InvalidRequest, DatabaseUnavailable, success=NOT_MODIFIED),
)
def get_job_metrics(
    job_id: JobPath,
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[int, Query(ge=-1, le=MAX_STEP, description="`last_step` of the previous answer.")] = -1,
    from_step: Annotated[int, Query(ge=0, le=MAX_STEP, description="Only points from this step on.")] = 0,
    to_step: Annotated[int | None, Query(ge=0, le=MAX_STEP, description="Only points up to this step.")] = None,
    max_points: PointsQuery = 500,
    band: BandQuery = False,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return loss, learning rate and speed by step, losses and accuracies by epoch; null if not a number.

    Longer series are thinned evenly by step; the first, the last and the best points (lowest losses, highest
    `val_top1`) stay. An epoch's point may be written after the interval's of the same step, so those of the step
    `after` are returned once more.
    """
    if to_step is not None and to_step < from_step:
        raise InvalidRequest(f"to_step is {to_step}, before from_step {from_step}: swap them", param="to_step")
    section = Section(after, from_step, to_step, max_points, band)
    with services.database.reading() as session:
        jobs.read_job(session, caller, job_id)
        series = read_section(session, job_id, section)
    found = MetricsRead(job=job_id, **dict(series))
    return answer_json(found.model_dump_json().encode(), if_none_match)


@router.get(
    "/series",
    summary="Get several jobs' series",
    response_model=SeriesOfJobs,
    responses=errors.responses(JobNotFound, InvalidRequest, DatabaseUnavailable, success=NOT_MODIFIED),
)
async def get_series(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    job: Annotated[
        list[str], Query(min_length=1, max_length=MAX_JOBS, description="A job's id; repeat it for each of the jobs.")
    ],
    max_points: PointsQuery = 500,
    band: BandQuery = False,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Return the series of up to 20 jobs, to be compared, as `GET /jobs/{job_id}/metrics` returns those of one."""
    section = Section(max_points=max_points, band=band)
    async with services.series_turns:
        if await request.is_disconnected():  # while it waited
            raise ClientDisconnect
        return await anyio.to_thread.run_sync(_compare, services, caller, job, section, if_none_match)


def _compare(
    services: Services, caller: str, job_ids: list[str], section: Section, if_none_match: list[str] | None
) -> Response:
    wanted = list(dict.fromkeys(job_ids))
    with services.database.reading() as session:
        known = {row.id for row in jobs.read_jobs(session, caller, wanted)}
        for missing in (job_id for job_id in wanted if job_id not in known):
            raise JobNotFound(f"there is no job {missing!r}: `GET /jobs` lists yours", param="job")
        found = SeriesOfJobs(data={job_id: read_section(session, job_id, section) for job_id in wanted})
    return answer_json(found.model_dump_json().encode(), if_none_match)
