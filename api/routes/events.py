"""`/jobs/{job_id}/events`: what happened to a job, as a list or as a stream."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response

from api.http import errors
from api.routes.queries import JobPath, LimitQuery
from api.schemas.base import ListRead
from api.schemas.events import EventRead
from api.services import CallerDep, ServicesDep
from api.streams.event_stream import EventStream
from trainyard.errors import DatabaseUnavailable, InvalidRequest, JobNotFound, TooManyStreams
from trainyard.jobs import jobs
from trainyard.jobs.event_log import Head, list_events

router = APIRouter(prefix="/jobs", tags=["jobs"])

MAX_SEQ = 2**31 - 1
AfterEvent = Annotated[int, Query(ge=0, le=MAX_SEQ, description="Number of the last event that you know; 0: none.")]
LastEventId = Annotated[
    int | None,
    Header(
        alias="Last-Event-ID", ge=0, le=MAX_SEQ, description="The same, for streams; it takes precedence over `after`."
    ),
]
_STREAM: dict[str, Any] = {
    "description": "Events, oldest first; with `Accept: text/event-stream` a stream, with one event in each `data`.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}


@router.get(
    "/{job_id}/events",
    summary="List or follow a job's events",
    response_model=ListRead[EventRead],
    responses=errors.responses(
        *(JobNotFound, InvalidRequest, TooManyStreams, DatabaseUnavailable),
        success={200: _STREAM, 204: {"description": "A stream was asked for, and its last event is known."}},
    ),
)
def list_job_events(
    request: Request,
    job_id: JobPath,
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 20,
    after: AfterEvent = 0,
    last_event_id: LastEventId = None,
) -> Any:
    """What happened to a job, oldest first: a log is read from its beginning. The next page: `?after=<last_id>`.

    With `Accept: text/event-stream` the answer is a live stream of server-sent events: first those after
    `Last-Event-ID` (or `after`), then each event soon after it happens, and a comment every 15 s, until the job is
    final and its last event was sent. 204 means that there is nothing more to come; browsers then stop reconnecting.
    """
    live = _wants_stream(request)
    known, param = (after, "after") if last_event_id is None or not live else (last_event_id, "Last-Event-ID")
    with services.database.reading() as session:
        job = jobs.get_job(session, caller, job_id)
        if known > job.event_seq:
            raise InvalidRequest(
                f"{param} is {known}, but job {job_id} has {job.event_seq} events: take `last_id` of a page",
                param=param,
            )
        if not live:
            page = list_events(session, job_id, after=known, limit=limit)
            return ListRead[EventRead].of([EventRead.of(event) for event in page.items], has_more=page.has_more)
        head = Head.of(job)
    if head.is_final and known >= head.seq:
        return Response(status_code=204)
    return EventStream(services.events, job_id, known, head)


def _wants_stream(request: Request) -> bool:
    for kind in request.headers.get("accept", "").lower().split(","):
        name, *parameters = (part.replace(" ", "") for part in kind.split(";"))
        if name == "text/event-stream":
            return not any(parameter.startswith("q=0") and not parameter.strip("q=.0") for parameter in parameters)
    return False
