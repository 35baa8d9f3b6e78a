"""`/jobs/{job_id}/logs`: what a job's trainers wrote."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from starlette.responses import PlainTextResponse, Response

from alexnet_core.layout import log_key
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.routes.queries import JobPath
from api.services import CallerDep, ServicesDep
from trainyard.errors import BeyondTheEnd, DatabaseUnavailable, InvalidRequest, JobNotFound, StorageUnavailable
from trainyard.jobs import job_log, jobs

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=GuardedRoute)

MAX_POSITION = 2**62
_TEXT: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "headers": {
            "X-Next-Byte": {
                "description": "Where to go on: the next `from_byte`.",
                "schema": {"type": "integer"},
            }
        },
    }
}


@router.get(
    "/{job_id}/logs",
    summary="Read a job's log",
    response_class=Response,
    response_description="Plain text, the oldest line first.",
    responses=errors.responses(
        *(JobNotFound, InvalidRequest, BeyondTheEnd, DatabaseUnavailable, StorageUnavailable), success=_TEXT
    ),
)
def get_job_log(
    job_id: JobPath,
    services: ServicesDep,
    caller: CallerDep,
    tail: Annotated[int, Query(ge=1, le=10_000, description="Most lines, counted from the end.")] = 200,
    from_byte: Annotated[
        int | None,
        Query(
            ge=0, le=MAX_POSITION, description="Instead of the end: what stands from this byte on, at most 1 MiB of it."
        ),
    ] = None,
) -> Response:
    """Return the last lines that the job's trainers wrote in all attempts; empty if there are none.

    At most 4 MiB. With an object store the lines of a running job appear a few seconds late. To follow a log, ask again
    with `from_byte` as `X-Next-Byte` said: no byte comes twice, and none is left out.
    """
    with services.database.reading() as session:
        job = jobs.read_job(session, caller, job_id)
    key = log_key(job.id)
    if from_byte is None:
        piece = job_log.read_end(services.storage, key, lines=tail)
    else:
        piece = job_log.read_from(services.storage, key, from_byte)
    headers = {"Cache-Control": "no-cache", "X-Next-Byte": str(piece.next_byte)}
    return PlainTextResponse(piece.data.decode("utf-8", "replace"), headers=headers)
