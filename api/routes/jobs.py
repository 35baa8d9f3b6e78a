"""`/jobs`: queue a training run, and look at it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response

from api import submission
from api.http import errors
from api.http.validators import NOT_MODIFIED, IfNoneMatch, answer_json
from api.job_reader import describe_jobs
from api.routes.checkpoints import describe_checkpoints
from api.routes.queries import AfterQuery, JobPath, KeyHeader, LimitQuery
from api.schemas.base import ListRead
from api.schemas.jobs import MAX_METADATA, CheckpointRead, JobCreate, JobRead
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
from trainyard.jobs import jobs
from trainyard.states import ShownState

router = APIRouter(prefix="/jobs", tags=["jobs"])

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
_METADATA_FILTER: dict[str, Any] = {
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
    response_model=ListRead[JobRead],
    openapi_extra=_METADATA_FILTER,
    responses=errors.responses(InvalidRequest, DatasetNotFound, DatabaseUnavailable),
)
def list_jobs(
    request: Request,
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 20,
    after: AfterQuery = None,
    state: Annotated[ShownState | None, Query(description="Only jobs in this state.")] = None,
    dataset: Annotated[
        str | None, Query(pattern=r"^[^\x00-\x1f\x7f]{1,200}$", description="Only jobs on this dataset (id or name).")
    ] = None,
) -> Response:
    """Return a page of your jobs, newest first. `?metadata[key]=value` filters by metadata."""
    wanted = _metadata_filters(request)
    with services.database.reading() as session:
        dataset_id = None if dataset is None else datasets.get_dataset(session, caller, dataset).id
        page = jobs.list_jobs(
            session, caller, limit=limit, after=after, state=state, dataset_id=dataset_id, metadata=wanted
        )
        found = ListRead[JobRead].of(describe_jobs(session, services.settings, page.items), has_more=page.has_more)
    return Response(found.model_dump_json(), media_type="application/json")


def _metadata_filters(request: Request) -> dict[str, str]:
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
