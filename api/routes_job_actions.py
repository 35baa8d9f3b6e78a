"""What can be done with a job: stop it, let it wait, let it go on."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import APIRouter
from sqlalchemy.orm import Session

from api import errors
from api.queries import JobPath
from api.routes_jobs import describe_jobs
from api.schemas import JobRead
from api.services import CallerDep, Services, ServicesDep
from trainyard import jobs
from trainyard.errors import DatabaseUnavailable, IllegalTransition, JobNotFound
from trainyard.tables import Job

router = APIRouter(prefix="/jobs", tags=["jobs"])

_REFUSALS = errors.responses(JobNotFound, IllegalTransition, DatabaseUnavailable)


@router.post(
    "/{job_id}/cancel",
    status_code=202,
    summary="Cancel a job",
    response_description="The job: `cancelled`, or `cancelling` until its step and a checkpoint are done.",
    responses=_REFUSALS,
)
def cancel_job(job_id: JobPath, services: ServicesDep, caller: CallerDep) -> JobRead:
    """Stop a job for good: a queued or paused one at once, a running one at its next step. Repeating it is harmless."""
    return _act(jobs.cancel, services, caller, job_id)


@router.post(
    "/{job_id}/pause",
    status_code=202,
    summary="Pause a job",
    response_description="The job: `paused`, or `pausing` until its step and a checkpoint are done.",
    responses=_REFUSALS,
)
def pause_job(job_id: JobPath, services: ServicesDep, caller: CallerDep) -> JobRead:
    """Let a job wait for `POST /jobs/{job_id}/resume`: a queued one at once, a running one at its next step, where it
    writes a checkpoint and frees its slot. Repeating it is harmless.
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
    """Put a paused job back into the queue: it goes on where it stopped, to the same weights as if it had not.
    Repeating it is harmless.
    """
    return _act(jobs.resume, services, caller, job_id)


def _act(action: Callable[[Session, str, str], Job], services: Services, caller: str, job_id: str) -> JobRead:
    with services.database.writing() as session:
        action(session, caller, job_id)
    services.reconciler.wake()
    with services.database.reading() as session:
        return describe_jobs(session, services.settings, [jobs.get_job(session, caller, job_id)])[0]
