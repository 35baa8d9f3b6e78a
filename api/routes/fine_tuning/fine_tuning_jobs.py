"""`/v1/fine_tuning/jobs`: training runs for the clients of OpenAI's fine-tuning API. Datasets are its files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy.orm import Session

from alexnet_core.recipes import default_recipe, get_recipe
from api import submission
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.reading.checkpoint_reader import describe_checkpoints
from api.reading.job_reader import describe_jobs
from api.routes.fine_tuning.openai_words import in_openai_words
from api.routes.jobs import METADATA_FILTER, metadata_filters
from api.routes.queries import AfterQuery, KeyHeader, LimitQuery
from api.schemas.events import EventRead
from api.schemas.jobs import JobCreate
from api.schemas.runs.fine_tuning import (
    FITTING,
    FineTuningCheckpointRead,
    FineTuningCreate,
    FineTuningEventRead,
    FineTuningJobRead,
    OpenAIList,
)
from api.services import CallerDep, Services, ServicesDep
from trainyard.artifacts import checkpoints, datasets
from trainyard.database.tables import Job
from trainyard.errors import (
    BodyUnreadable,
    Conflict,
    DatabaseFull,
    DatabaseUnavailable,
    DatasetNotFound,
    DatasetRejected,
    IdempotencyConflict,
    IllegalTransition,
    InvalidConfig,
    InvalidRequest,
    JobNotFound,
    JsonInvalid,
    TooLarge,
    UnknownRecipe,
)
from trainyard.jobs import job_list, jobs
from trainyard.jobs.event_log import list_newest_events

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["fine-tuning"], route_class=GuardedRoute)

FineTuningJobPath = Annotated[str, Path(description="The job's id, such as `job_01m867mjxcwzg9jmycd4rmka44`.")]
_REFUSALS = errors.responses(JobNotFound, IllegalTransition, DatabaseUnavailable)


@router.post(
    "",
    summary="Create a fine-tuning job",
    response_description="Queued: the same job as `POST /jobs` makes.",
    responses=errors.responses(
        *(DatasetNotFound, DatasetRejected, InvalidRequest, UnknownRecipe, InvalidConfig, IdempotencyConflict),
        *(Conflict, JsonInvalid, BodyUnreadable, TooLarge, DatabaseUnavailable, DatabaseFull),
    ),
)
def create_fine_tuning_job(
    body: FineTuningCreate, services: ServicesDep, caller: CallerDep, idempotency_key: KeyHeader = None
) -> FineTuningJobRead:
    """Queue a training run of a recipe (`model`) on a dataset (`training_file`)."""
    with in_openai_words():
        wanted = JobCreate(
            dataset=body.training_file,
            recipe=None if body.model == FITTING else body.model,
            overrides=_overrides(services, caller, body),
            name=body.suffix,
            seed=body.seed,
            metadata=body.metadata or {},
        )
        submitted = submission.submit_job(services, caller, wanted, idempotency_key)
    return FineTuningJobRead.of(submitted.job, datetime.now(UTC))


def _overrides(services: Services, caller: str, body: FineTuningCreate) -> dict[str, Any]:
    chosen = body.chosen
    given = {"epochs": chosen.n_epochs, "batch_size": chosen.batch_size}
    overrides: dict[str, Any] = {name: value for name, value in given.items() if value != "auto"}
    if chosen.learning_rate_multiplier != "auto":
        overrides["lr"] = _usual_rate(services, caller, body) * chosen.learning_rate_multiplier
    return overrides


def _usual_rate(services: Services, caller: str, body: FineTuningCreate) -> float:
    """Return the recipe's own learning rate."""
    if body.model != FITTING:
        return get_recipe(body.model).config.lr
    with services.database.reading() as session:
        dataset = datasets.get_dataset(session, caller, body.training_file, param="dataset")
        if datasets.is_coming(dataset):
            raise InvalidRequest(
                f"the recipe that fits dataset {dataset.id} is not known before the dataset is ready: name a recipe as "
                "model, or leave learning_rate_multiplier out",
                param="model",
            )
        return default_recipe(datasets.facts_of(dataset)).config.lr


@router.get(
    "",
    summary="List fine-tuning jobs",
    openapi_extra=METADATA_FILTER,
    responses=errors.responses(InvalidRequest, DatabaseUnavailable),
)
def list_fine_tuning_jobs(
    request: Request, services: ServicesDep, caller: CallerDep, limit: LimitQuery = 20, after: AfterQuery = None
) -> OpenAIList[FineTuningJobRead]:
    """Return a page of your jobs, newest first."""
    wanted = job_list.JobFilter(metadata=metadata_filters(request))
    with services.database.reading() as session:
        page = job_list.list_jobs(session, caller, limit=limit, after=after, wanted=wanted)
        found = describe_jobs(session, services.settings, page.items)
    moment = datetime.now(UTC)
    return OpenAIList(data=[FineTuningJobRead.of(job, moment) for job in found], has_more=page.has_more)


@router.get(
    "/{fine_tuning_job_id}",
    summary="Get a fine-tuning job",
    responses=errors.responses(JobNotFound, DatabaseUnavailable),
)
def get_fine_tuning_job(
    fine_tuning_job_id: FineTuningJobPath, services: ServicesDep, caller: CallerDep
) -> FineTuningJobRead:
    """Return one job."""
    with in_openai_words():
        return _read(services, caller, fine_tuning_job_id)


@router.post("/{fine_tuning_job_id}/cancel", summary="Cancel a fine-tuning job", responses=_REFUSALS)
def cancel_fine_tuning_job(
    fine_tuning_job_id: FineTuningJobPath, services: ServicesDep, caller: CallerDep
) -> FineTuningJobRead:
    """Stop a job for good, as `POST /jobs/{job_id}/cancel` does."""
    return _act(jobs.cancel, services, caller, fine_tuning_job_id)


@router.post("/{fine_tuning_job_id}/pause", summary="Pause a fine-tuning job", responses=_REFUSALS)
def pause_fine_tuning_job(
    fine_tuning_job_id: FineTuningJobPath, services: ServicesDep, caller: CallerDep
) -> FineTuningJobRead:
    """Pause a job until it is resumed, as `POST /jobs/{job_id}/pause` does."""
    return _act(jobs.pause, services, caller, fine_tuning_job_id)


@router.post("/{fine_tuning_job_id}/resume", summary="Resume a fine-tuning job", responses=_REFUSALS)
def resume_fine_tuning_job(
    fine_tuning_job_id: FineTuningJobPath, services: ServicesDep, caller: CallerDep
) -> FineTuningJobRead:
    """Put a paused job back into the queue, as `POST /jobs/{job_id}/resume` does."""
    return _act(jobs.resume, services, caller, fine_tuning_job_id)


@router.get(
    "/{fine_tuning_job_id}/events",
    summary="List a fine-tuning job's events",
    responses=errors.responses(JobNotFound, InvalidRequest, DatabaseUnavailable),
)
def list_fine_tuning_events(
    fine_tuning_job_id: FineTuningJobPath,
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 20,
    after: Annotated[
        str | None,
        Query(pattern=r"^job_[0-9a-z]{1,64}-[0-9]{1,9}$", description="Id of the last event of the previous page."),
    ] = None,
) -> OpenAIList[FineTuningEventRead]:
    """Return a page of what happened to a job, the newest first."""
    before = None if after is None else int(after.rpartition("-")[2])
    with in_openai_words(), services.database.reading() as session:
        job = jobs.read_job(session, caller, fine_tuning_job_id)
        page = list_newest_events(session, job.id, before=before, limit=limit)
        found = [FineTuningEventRead.of(EventRead.of(event)) for event in page.items]
    return OpenAIList(data=found, has_more=page.has_more)


@router.get(
    "/{fine_tuning_job_id}/checkpoints",
    summary="List a fine-tuning job's checkpoints",
    responses=errors.responses(JobNotFound, InvalidRequest, DatabaseUnavailable),
)
def list_fine_tuning_checkpoints(
    fine_tuning_job_id: FineTuningJobPath,
    services: ServicesDep,
    caller: CallerDep,
    limit: LimitQuery = 10,
    after: AfterQuery = None,
) -> OpenAIList[FineTuningCheckpointRead]:
    """Return a page of a job's checkpoints, the newest first."""
    with in_openai_words(), services.database.reading() as session:
        page = checkpoints.list_checkpoints(session, caller, job_id=fine_tuning_job_id, limit=limit, after=after)
        found = describe_checkpoints(session, page.items)
    return OpenAIList(data=[FineTuningCheckpointRead.of(it) for it in found], has_more=page.has_more)


def _act(action: Callable[[Session, str, str], Job], services: Services, caller: str, job_id: str) -> FineTuningJobRead:
    with in_openai_words():
        with services.database.writing() as session:
            action(session, caller, job_id)
        services.reconciler.wake()
        return _read(services, caller, job_id)


def _read(services: Services, caller: str, job_id: str) -> FineTuningJobRead:
    with services.database.reading() as session:
        job = describe_jobs(session, services.settings, [jobs.read_job(session, caller, job_id)])[0]
    return FineTuningJobRead.of(job, datetime.now(UTC))
