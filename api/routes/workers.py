"""`/workers`: the workers. `/queue`: the waiting jobs, in their order, and what each waits for."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.routes.queries import AfterQuery, LimitQuery
from api.schemas.base import ListRead
from api.schemas.workers import QueuedJobRead, WorkerRead, WorkersRead
from api.services import CallerDep, ServicesDep
from trainyard.database.connection import read_clock
from trainyard.errors import DatabaseUnavailable, InvalidRequest
from trainyard.scheduling import queue_view, workers
from trainyard.scheduling.workers import WorkerState

router = APIRouter(tags=["workers"], route_class=GuardedRoute)


@router.get("/workers", summary="List workers", responses=errors.responses(InvalidRequest, DatabaseUnavailable))
def list_workers(
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 20,
    after: AfterQuery = None,
    state: Annotated[
        list[WorkerState],
        Query(
            max_length=len(WorkerState),
            description="Only workers in this state; may be repeated. Default: all but those gone for over an hour.",
        ),
    ] = [],  # noqa: B006 - FastAPI copies it
) -> WorkersRead:
    """Return a page of the workers, the last started first, each with its slots and the jobs in them.

    A worker that is lost or stopped is listed for an hour, with `?state=` for a day.
    """
    with services.database.reading() as session:
        moment = read_clock(session)
        page = workers.list_workers(session, limit=limit, after=after, states=state)
        held = workers.list_held_jobs(session, [row.id for row in page.items])
        items = [WorkerRead.of(row, held[row.id], moment=moment, caller=caller) for row in page.items]
        found = ListRead[WorkerRead].of(items, has_more=page.has_more)
        return WorkersRead(**dict(found), counts=workers.count_by_state(session))


@router.get("/queue", summary="List the queue", responses=errors.responses(InvalidRequest, DatabaseUnavailable))
def list_queue(
    services: ServicesDep, caller: CallerDep, limit: LimitQuery = 20, after: AfterQuery = None
) -> ListRead[QueuedJobRead]:
    """Return a page of your queued jobs in the order in which workers will take them, the next one first.

    The highest priority goes first; within a priority the owner with the fewest running jobs, then the owner whose last
    start is longest ago, then the job whose `queued_at` is longest ago. If the job of `after` has left the queue, the
    page is the front of the queue.
    """
    with services.database.reading() as session:
        most = services.settings.max_running_per_owner
        page = queue_view.list_queue(session, caller, limit=limit, after=after, max_running_per_owner=most)
        return ListRead[QueuedJobRead].of([QueuedJobRead.of(entry) for entry in page.items], has_more=page.has_more)
