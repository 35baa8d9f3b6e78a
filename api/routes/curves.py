"""`/jobs/{job_id}/curves.png`: how a run went, as a picture."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from alexnet_core.evaluation.curves import Curves, draw_curves
from api.http import errors
from api.http.validators import IfNoneMatch, is_known, tag_headers
from api.routes.queries import JobPath
from api.services import CallerDep, ServicesDep
from trainyard import __version__
from trainyard.errors import DatabaseUnavailable, JobNotFound
from trainyard.jobs import jobs
from trainyard.jobs.metrics import read_series, read_version

router = APIRouter(prefix="/jobs", tags=["jobs"])


@router.get(
    "/{job_id}/curves.png",
    summary="Draw a job's learning curves",
    response_description="A PNG of 1000x600.",
    response_class=Response,
    responses=errors.responses(
        *(JobNotFound, DatabaseUnavailable),
        success={
            200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
            304: {"description": "Nothing was measured since the picture that you have."},
        },
    ),
)
def get_curves(
    job_id: JobPath, services: ServicesDep, caller: CallerDep, if_none_match: IfNoneMatch = None
) -> Response:
    """Loss and learning rate by step and validation accuracy by epoch, the best epoch marked.

    Of a job that has not measured anything yet, a picture that says so.
    """
    with services.database.reading() as session:
        job = jobs.get_job(session, caller, job_id)
        title, best_epoch = f"{job.id} · {job.recipe} on {job.dataset_id}", (job.best or {}).get("epoch")
        version = repr((__version__, title, best_epoch, read_version(session, job.id)))
        headers = tag_headers(version.encode())
        if is_known(headers, if_none_match):
            return Response(status_code=304, headers=headers)
        series = read_series(session, job.id)
    picture = draw_curves(Curves.of(series.by_step, series.by_epoch, best_epoch), title)
    return Response(picture, headers=headers, media_type="image/png")
