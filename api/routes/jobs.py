"""`/jobs`: queue a training run, and look at it."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from pydantic import BaseModel

from api import submission
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.http.validators import NOT_MODIFIED, IfNoneMatch, answer_json
from api.reading.checkpoint_reader import describe_checkpoints
from api.reading.job_reader import describe_jobs
from api.routes.queries import AfterQuery, JobPath, KeyHeader, LimitQuery
from api.schemas.base import ListRead
from api.schemas.jobs import MAX_METADATA, CheckpointRead, JobCreate, JobRead, JobRowRead, JobRowsRead
from api.services import CallerDep, ServicesDep
from api.submission import Submitted
from trainyard.artifacts import checkpoints, datasets
from trainyard.errors import (
    BodyUnreadable,
    CheckpointNotFound,
    CheckpointPruned,
    Conflict,
    DatabaseFull,
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetRejected,
    IdempotencyConflict,
    InvalidConfig,
    InvalidRequest,
    JobNotFound,
    JsonInvalid,
    TooLarge,
    UnknownRecipe,
)
from trainyard.jobs import job_list
from trainyard.jobs.job_list import JobFilter
from trainyard.states import ShownState

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=GuardedRoute)

MAX_JOBS, MAX_ROWS = 100, 1000  # on a page: a whole job has 3 kB of JSON, a row 1 kB
_TEXT = r"^[^\x00-\x1f\x7f]{1,200}$"


class JobView(StrEnum):
    """How much of each job a list shows."""

    FULL = "full"  #: all of it
    ROW = "row"  #: what a table of jobs shows


NewJobBody = Annotated[
    JobCreate,
    Body(
        openapi_examples={
            "smallest": {"summary": "The least that is needed", "value": {"dataset": "digits"}},
            "recipe": {
                "summary": "A recipe with overrides, and a name to find the job by",
                "value": {
                    "dataset": "digits",
                    "recipe": "small-images",
                    "overrides": {"epochs": 5, "lr": 0.02},
                    "name": "digits, lower rate",
                    "metadata": {"team": "vision"},
                    "seed": 7,
                },
            },
        }
    ),
]
METADATA_FILTER: dict[str, Any] = {
    "parameters": [
        {
            "name": "metadata",
            "in": "query",
            "style": "deepObject",
            "explode": True,
            "description": "`?metadata[key]=value`: only jobs with this pair; may be repeated.",
            "schema": {"type": "object", "additionalProperties": {"type": "string"}},
            "example": {},  # else the page would fill in a pair that no job has
        }
    ]
}


@router.post(
    "",
    status_code=202,
    summary="Queue a job",
    response_description="Queued. `Location` is where to follow it.",
    responses=errors.responses(
        *(DatasetNotFound, CheckpointNotFound, CheckpointPruned, InvalidRequest, UnknownRecipe, InvalidConfig),
        *(DatasetRejected, IdempotencyConflict, Conflict),
        *(JsonInvalid, BodyUnreadable, TooLarge, DatabaseUnavailable, DatabaseFull),
        success={200: {"model": JobRead, "description": "This Idempotency-Key made this job before."}},
    ),
)
def create_job(
    body: NewJobBody, response: Response, services: ServicesDep, caller: CallerDep, idempotency_key: KeyHeader = None
) -> JobRead:
    """Queue a training run and answer at once; follow it at `GET /jobs/{job_id}`."""
    return answer_submitted(submission.submit_job(services, caller, body, idempotency_key), response)


def answer_submitted(submitted: Submitted, response: Response) -> JobRead:
    """Return the job, and set the status and headers that say where it is and whether it is new."""
    submission.tell_where(response, f"/jobs/{submitted.job.id}", is_new=submitted.is_new)
    return submitted.job


@router.get(
    "",
    summary="List jobs",
    response_model=ListRead[JobRead] | JobRowsRead,
    openapi_extra=METADATA_FILTER,
    responses=errors.responses(InvalidRequest, DatasetNotFound, DatabaseUnavailable),
)
def list_jobs(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    view: Annotated[
        JobView, Query(description="`full`: whole jobs; `row`: what a table shows of each, and the counts by state.")
    ] = JobView.FULL,
    limit: Annotated[
        int, Query(ge=1, le=MAX_ROWS, description=f"Most jobs on the page: {MAX_JOBS}, of rows {MAX_ROWS}.")
    ] = 20,
    after: AfterQuery = None,
    state: Annotated[
        list[ShownState], Query(max_length=len(ShownState), description="Only jobs in this state; may be repeated.")
    ] = [],  # noqa: B006 - FastAPI copies it
    dataset: Annotated[str | None, Query(pattern=_TEXT, description="Only jobs on this dataset (id or name).")] = None,
    recipe: Annotated[str | None, Query(pattern=_TEXT, description="Only jobs of the recipe with this name.")] = None,
    q: Annotated[
        str | None,
        Query(pattern=_TEXT, description="Only jobs whose id, name or dataset's name contains this text."),
    ] = None,
) -> Response:
    """Return a page of your jobs, newest first. `?metadata[key]=value` filters by metadata.

    With `view=row` a page has up to 1000 jobs, each without `config`, `state_history` and `links` but with its training
    loss in up to 24 numbers, and the page counts your jobs that match the filters by their state.
    """
    if view is JobView.FULL and limit > MAX_JOBS:
        raise InvalidRequest(f"limit: at most {MAX_JOBS}, and {MAX_ROWS} with view=row", param="limit")
    pairs = metadata_filters(request)
    with services.database.reading() as session:
        dataset_id = None if dataset is None else datasets.get_dataset(session, caller, dataset).id
        wanted = JobFilter(state, dataset_id, recipe, q, pairs)
        page = job_list.list_jobs(session, caller, limit=limit, after=after, wanted=wanted)
        found: BaseModel
        if view is JobView.FULL:
            found = ListRead[JobRead].of(describe_jobs(session, services.settings, page.items), has_more=page.has_more)
        else:
            rows = ListRead[JobRowRead].of(services.job_rows.describe(session, page.items), has_more=page.has_more)
            found = JobRowsRead(**dict(rows), counts=job_list.count_by_state(session, caller, wanted))
    return Response(found.model_dump_json(), media_type="application/json")


def metadata_filters(request: Request) -> dict[str, str]:
    """Return the pairs of `?metadata[key]=value`.

    Raises:
        InvalidRequest: no job can have such a pair, or there are too many.
    """
    pairs = {
        name.removeprefix("metadata[").removesuffix("]"): value
        for name, value in request.query_params.multi_items()
        if name.startswith("metadata[") and name.endswith("]")
    }
    for key, value in pairs.items():
        if not key or len(key) > 64 or len(value) > 512 or "\0" in key + value:
            raise InvalidRequest("metadata: a key has 1 to 64 characters, a value at most 512", param="metadata")
    if len(pairs) > MAX_METADATA:
        raise InvalidRequest(f"metadata: at most {MAX_METADATA} filters", param="metadata")
    return pairs


@router.get(
    "/{job_id}",
    summary="Get a job",
    response_model=JobRead,
    responses=errors.responses(JobNotFound, DatabaseUnavailable, success=NOT_MODIFIED),
)
async def get_job(
    job_id: JobPath, services: ServicesDep, caller: CallerDep, if_none_match: IfNoneMatch = None
) -> Response:
    """Return one job: its state, progress, metrics and checkpoints. Polling costs least with `If-None-Match`."""
    return answer_json(await services.jobs.read(caller, job_id), if_none_match)


@router.get(
    "/{job_id}/checkpoints",
    summary="List a job's checkpoints",
    responses=errors.responses(JobNotFound, InvalidRequest, DatabaseUnavailable),
)
def list_checkpoints_of_job(
    job_id: JobPath, services: ServicesDep, caller: CallerDep, limit: LimitQuery = 20, after: AfterQuery = None
) -> ListRead[CheckpointRead]:
    """Return a page of a job's checkpoints, newest first."""
    with services.database.reading() as session:
        page = checkpoints.list_checkpoints(session, caller, job_id=job_id, limit=limit, after=after)
        return ListRead[CheckpointRead].of(describe_checkpoints(session, page.items), has_more=page.has_more)
