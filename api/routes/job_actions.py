"""What can be done with a job: change, cancel, pause, resume, retry and delete."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated

import anyio.from_thread
from fastapi import APIRouter, Body, Response
from sqlalchemy.orm import Session

from api import submission
from api.http import errors
from api.http.guarded_route import GuardedRoute
from api.reading.job_reader import describe_jobs
from api.routes.jobs import answer_submitted
from api.routes.queries import JobPath, KeyHeader
from api.schemas.jobs import JobChange, JobRead, JobRetry
from api.services import CallerDep, Services, ServicesDep
from trainyard.artifacts import deletion
from trainyard.database.tables import Job
from trainyard.errors import (
    BodyUnreadable,
    CheckpointNotFound,
    CheckpointPruned,
    Conflict,
    DatabaseUnavailable,
    IdempotencyConflict,
    IllegalTransition,
    InUse,
    InvalidConfig,
    InvalidRequest,
    JobNotFound,
    JsonInvalid,
    NoCheckpointOfJob,
    NoTrainingState,
    ServiceError,
    TooLarge,
)
from trainyard.jobs import changes, jobs

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=GuardedRoute)

RetryBody = Annotated[
    JobRetry,
    Body(
        openapi_examples={
            "start": {"summary": "The same job again", "value": {"from": "start"}},
            "latest": {"summary": "Go on where it ended", "value": {"from": "latest"}},
            "longer": {"summary": "Train it for longer", "value": {"from": "latest", "overrides": {"epochs": 20}}},
        }
    ),
]
ChangeBody = Annotated[
    JobChange,
    Body(
        openapi_examples={
            "name": {"summary": "Another name, and a note", "value": {"name": "base", "note": "The one to beat."}},
            "priority": {"summary": "Ahead of your other jobs", "value": {"priority": 10}},
        }
    ),
]
_REFUSALS = errors.responses(JobNotFound, IllegalTransition, DatabaseUnavailable)


@router.patch(
    "/{job_id}",
    summary="Change a job",
    response_description="The job as it is now.",
    responses=errors.responses(
        *(JobNotFound, IllegalTransition, InvalidRequest, JsonInvalid, BodyUnreadable, TooLarge, DatabaseUnavailable),
    ),
)
def change_job(job_id: JobPath, body: ChangeBody, services: ServicesDep, caller: CallerDep) -> JobRead:
    """Change a job's name, note or metadata at any time, and its priority while it is queued or paused.

    What is left out stays as it is. Repeating it is harmless.
    """
    with services.database.writing() as session:
        changes.change(session, caller, job_id, body.given)
    with services.database.reading() as session:
        return describe_jobs(session, services.settings, [jobs.get_job(session, caller, job_id)])[0]


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    response_description="The job: `cancelled`, or `cancelling` until its step and a checkpoint are done.",
    responses=_REFUSALS,
)
def cancel_job(job_id: JobPath, services: ServicesDep, caller: CallerDep) -> JobRead:
    """Stop a job for good: a queued or paused one at once, a running one after its step. Repeating it is harmless."""
    return _act(jobs.cancel, services, caller, job_id)


@router.post(
    "/{job_id}/pause",
    status_code=202,
    summary="Pause a job",
    response_description="The job: `paused`, or `pausing` until its step and a checkpoint are done.",
    responses=_REFUSALS,
)
def pause_job(job_id: JobPath, services: ServicesDep, caller: CallerDep) -> JobRead:
    """Pause a job until `POST /jobs/{job_id}/resume`. Repeating it is harmless.

    A queued job is paused at once. A running one finishes its step, writes a checkpoint and frees its slot.
    """
    return _act(jobs.pause, services, caller, job_id)


@router.post(
    "/{job_id}/resume",
    status_code=202,
    summary="Resume a job",
    response_description="The job: back in the queue.",
    responses=_REFUSALS,
)
def resume_job(job_id: JobPath, services: ServicesDep, caller: CallerDep) -> JobRead:
    """Put a paused job back into the queue. Repeating it is harmless.

    It goes on where it stopped, and ends with the same weights as if it had not been paused.
    """
    return _act(jobs.resume, services, caller, job_id)


@router.post(
    "/{job_id}/retry",
    status_code=202,
    summary="Retry a job",
    response_description="A new job with `parent_id`. `Location` is where to follow it.",
    responses=errors.responses(
        *(JobNotFound, CheckpointNotFound, CheckpointPruned, IllegalTransition, NoCheckpointOfJob, NoTrainingState),
        *(InvalidRequest, InvalidConfig, IdempotencyConflict, Conflict, JsonInvalid, BodyUnreadable, TooLarge),
        DatabaseUnavailable,
        success={200: {"model": JobRead, "description": "This Idempotency-Key made this job before."}},
    ),
)
def retry_job(
    job_id: JobPath,
    body: RetryBody,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    idempotency_key: KeyHeader = None,
) -> JobRead:
    """Train a job that has ended again, as a new job.

    It starts from the beginning, or continues from a checkpoint with its full training state, as if it had never ended.
    """
    return answer_submitted(submission.submit_retry(services, caller, job_id, body, idempotency_key), response)


@router.delete(
    "/{job_id}",
    status_code=204,
    summary="Delete a job",
    response_description="It has been removed, with its events, series, checkpoints and files.",
    responses=errors.responses(JobNotFound, IllegalTransition, InUse, DatabaseUnavailable),
)
def delete_job(job_id: JobPath, services: ServicesDep, caller: CallerDep) -> None:
    """Remove a job that has ended, with everything that belongs to it.

    `latest` falls back to the checkpoint that was published before, or to none.
    """
    remove_job(services, caller, job_id)


def remove_job(services: Services, caller: str, job_id: str) -> None:
    """Remove a job that has ended, with everything that belongs to it. Call it in a thread of the routes."""
    with services.database.writing() as session:
        keys = deletion.delete_job(session, caller, job_id)
    with suppress(ServiceError):  # an engine that is being started again has forgotten everything
        anyio.from_thread.run(services.engine.forget, job_id)
    deletion.remove_files(services.storage, keys)


def _act(action: Callable[[Session, str, str], Job], services: Services, caller: str, job_id: str) -> JobRead:
    with services.database.writing() as session:
        action(session, caller, job_id)
    services.reconciler.wake()
    with services.database.reading() as session:
        return describe_jobs(session, services.settings, [jobs.get_job(session, caller, job_id)])[0]
