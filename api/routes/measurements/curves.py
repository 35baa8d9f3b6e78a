"""`/jobs/{job_id}/curves.png`: the learning curves of a run as a picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import anyio.to_thread
from fastapi import APIRouter
from starlette.responses import Response

from alexnet_core.evaluation.curves import Curves, draw_curves
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.validators import IfNoneMatch, is_known, tag_headers
from api.routes.queries import JobPath
from api.services import CallerDep, Services, ServicesDep
from trainyard import __version__
from trainyard.errors import DatabaseUnavailable, JobNotFound
from trainyard.jobs import jobs
from trainyard.jobs.metrics import read_series, read_version

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=GuardedRoute)


@router.get(
    "/{job_id}/curves.png",
    summary="Draw a job's learning curves",
    response_description="A PNG of 1000x600.",
    response_class=Response,
    responses=errors.responses(
        *(JobNotFound, DatabaseUnavailable),
        success={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            304: {"description": "Nothing new was measured since the picture that you have."},
        },
    ),
)
async def get_curves(
    job_id: JobPath, services: ServicesDep, caller: CallerDep, if_none_match: IfNoneMatch = None
) -> Response:
    """Draw loss and learning rate by step and validation accuracy by epoch, with the best epoch marked.

    If the job has not measured anything yet, the picture says so.
    """
    shown = await anyio.to_thread.run_sync(_look, services, caller, job_id)
    headers = tag_headers(shown.version.encode())
    if is_known(headers, if_none_match):
        return Response(status_code=304, headers=headers)
    picture = await services.pictures.get(shown.version, partial(_draw, services, shown))
    return Response(picture, headers=headers, media_type="image/png")


@dataclass(frozen=True)
class _Shown:
    """What a picture shows."""

    job_id: str
    title: str
    best_epoch: int | None
    version: str  #: another one whenever the picture would be another


def _look(services: Services, caller: str, job_id: str) -> _Shown:
    with services.database.reading() as session:
        job = jobs.read_job(session, caller, job_id)
        title, best_epoch = f"{job.id} · {job.recipe} on {job.dataset_id}", (job.best or {}).get("epoch")
        version = repr((__version__, title, best_epoch, read_version(session, job.id)))
        return _Shown(job.id, title, best_epoch, version)


def _draw(services: Services, shown: _Shown) -> bytes:
    with services.database.reading() as session:
        series = read_series(session, shown.job_id)
    return draw_curves(Curves.of(series.by_step, series.by_epoch, shown.best_epoch), shown.title)
