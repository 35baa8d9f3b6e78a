"""`/jobs/{job_id}/events`, and those of datasets and predictions: what happened, as a list or as a stream.

`/events`: what changes on the whole yard, as a stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Self

from fastapi import APIRouter, Header, Query, Request
from sqlalchemy.orm import Session
from starlette.responses import Response

from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.routes.queries import DatasetPath, JobPath, LimitQuery, PredictionPath
from api.schemas.base import ListRead
from api.schemas.events import DatasetEventRead, EventRead, LoggedEvent, PredictionEventRead
from api.services import CallerDep, Services, ServicesDep
from api.streams.event_stream import EventStream, YardStream
from trainyard.artifacts import datasets, predictions
from trainyard.database.tables import Job, JobEvent
from trainyard.errors import (
    DatabaseUnavailable,
    DatasetNotFound,
    InvalidRequest,
    JobNotFound,
    TooManyStreams,
)
from trainyard.jobs import jobs
from trainyard.jobs.event_log import Head, list_events
from trainyard.serving_errors import PredictionNotFound

router = APIRouter(route_class=GuardedRoute)

MAX_SEQ = 2**31 - 1
MAX_NUMBER = 2**62
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
    "/jobs/{job_id}/events",
    tags=["jobs"],
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
    with services.database.reading() as session:
        job = jobs.get_job(session, caller, job_id)
        wanted = _Wanted.of(request, job, f"job {job_id}", after, last_event_id)
        if not wanted.live:
            return wanted.list_page(session, limit, EventRead.of)
    return wanted.stream(services)


@router.get(
    "/datasets/{dataset_id}/events",
    tags=["datasets"],
    summary="List or follow a dataset's events",
    response_model=ListRead[DatasetEventRead],
    responses=errors.responses(
        *(DatasetNotFound, InvalidRequest, TooManyStreams, DatabaseUnavailable),
        success={200: _STREAM, 204: {"description": "A stream was asked for, and its last event is known."}},
    ),
)
def list_dataset_events(
    request: Request,
    dataset_id: DatasetPath,
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 20,
    after: AfterEvent = 0,
    last_event_id: LastEventId = None,
) -> Any:
    """What happened to a dataset since it was submitted, as a list or a stream; see `/jobs/{job_id}/events`.

    A built-in dataset has no events.
    """
    with services.database.reading() as session:
        dataset = datasets.get_dataset(session, caller, dataset_id, param="dataset_id")
        work = session.get(Job, dataset.work_id)
        if work is None:
            return Response(status_code=204) if _wants_stream(request) else ListRead[EventRead].of([], has_more=False)
        wanted = _Wanted.of(request, work, f"dataset {dataset_id}", after, last_event_id)
        if not wanted.live:
            return wanted.list_page(session, limit, DatasetEventRead.of)
    return wanted.stream(services)


@router.get(
    "/predictions/{prediction_id}/events",
    tags=["predictions"],
    summary="List or follow a prediction's events",
    response_model=ListRead[PredictionEventRead],
    responses=errors.responses(
        *(PredictionNotFound, InvalidRequest, TooManyStreams, DatabaseUnavailable),
        success={200: _STREAM, 204: {"description": "A stream was asked for, and its last event is known."}},
    ),
)
def list_prediction_events(
    request: Request,
    prediction_id: PredictionPath,
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 20,
    after: AfterEvent = 0,
    last_event_id: LastEventId = None,
) -> Any:
    """What happened to a prediction over many images, as a list or a stream; see `/jobs/{job_id}/events`.

    An event of the type `results` says how many rows can be read by now.
    """
    with services.database.reading() as session:
        work = predictions.get_prediction(session, caller, prediction_id)
        wanted = _Wanted.of(request, work, f"prediction {prediction_id}", after, last_event_id)
        if not wanted.live:
            return wanted.list_page(session, limit, PredictionEventRead.of)
    return wanted.stream(services)


@router.get(
    "/events",
    tags=["jobs"],
    summary="Follow the yard",
    response_class=Response,
    response_description="Server-sent events, without end.",
    responses=errors.responses(
        *(InvalidRequest, TooManyStreams, DatabaseUnavailable),
        success={200: {"content": {"text/event-stream": {}}}},
    ),
)
async def follow_yard(
    services: ServicesDep,
    caller: CallerDep,
    after: Annotated[
        int | None, Query(ge=0, le=MAX_NUMBER, description="Number of the last event that you know; none: from now on.")
    ] = None,
    last_event_id: Annotated[
        int | None,
        Header(alias="Last-Event-ID", ge=0, le=MAX_NUMBER, description="The same; it takes precedence over `after`."),
    ] = None,
) -> Response:
    """Follow all of your jobs, datasets and checkpoints, and the workers, with one stream of server-sent events.

    Numbered events come in the order of their numbers, each once, also after a break (`Last-Event-ID`): `job` (a row
    as in `GET /jobs?view=row`), `gone`, `checkpoint` and `dataset`. What is sent is never older than its number.
    Unnumbered ones tell of what changes all the time, at most once a second for each thing: `progress`, `worker`,
    `serving`, and `dataset` while it is uploaded or validated. `tick` comes at once and every five seconds. After
    `reset`, read all anew: events were missed.
    """
    return YardStream(services.events, caller, after if last_event_id is None else last_event_id)


@dataclass(frozen=True)
class _Wanted:
    """Which part of a log a client wants, and how."""

    log_id: str
    head: Head
    live: bool  #: as a stream
    known: int  #: number of the last event that it knows

    @classmethod
    def of(cls, request: Request, row: Job, name: str, after: int, last_event_id: int | None) -> Self:
        """Read it from a request.

        Raises:
            InvalidRequest: the log has no such event.
        """
        live = _wants_stream(request)
        known, param = (after, "after") if last_event_id is None or not live else (last_event_id, "Last-Event-ID")
        if known > row.event_seq:
            raise InvalidRequest(
                f"{param} is {known}, but {name} has {row.event_seq} events: take `last_id` of a page", param=param
            )
        return cls(row.id, Head.of(row), live, known)

    def list_page(self, session: Session, limit: int, read: Callable[[JobEvent], LoggedEvent]) -> ListRead[LoggedEvent]:
        """Answer with a page of the log."""
        page = list_events(session, self.log_id, after=self.known, limit=limit)
        return ListRead[LoggedEvent].of([read(event) for event in page.items], has_more=page.has_more)

    def stream(self, services: Services) -> Response:
        """Answer with a stream."""
        if self.head.is_final and self.known >= self.head.seq:
            return Response(status_code=204)
        return EventStream(services.events, self.log_id, self.known, self.head)


def _wants_stream(request: Request) -> bool:
    for kind in request.headers.get("accept", "").lower().split(","):
        name, *parameters = (part.replace(" ", "") for part in kind.split(";"))
        if name == "text/event-stream":
            return not any(parameter.startswith("q=0") and not parameter.strip("q=.0") for parameter in parameters)
    return False
