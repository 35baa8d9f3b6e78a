"""What the owner may change of a job that was submitted: its name, its note, its metadata and its priority."""

from __future__ import annotations

from typing import Any, TypedDict

from sqlalchemy import delete, update
from sqlalchemy.orm import Session

from trainyard.database.tables import Job, JobLabel
from trainyard.errors import IllegalTransition
from trainyard.jobs.events import change_and_tell
from trainyard.jobs.jobs import check_texts, get_job
from trainyard.jobs.metadata_index import label_rows
from trainyard.states import EventType, JobState

#: A worker has decided by the priority when it claims a job, so that later it says nothing any more.
_PRIORITY_COUNTS = (JobState.QUEUED, JobState.PAUSED)


class Changes(TypedDict, total=False):
    """The values that replace a job's; what is left out stays."""

    name: str | None
    note: str | None
    metadata: dict[str, str]  #: all pairs; those that are not in it are removed
    priority: int


def change(session: Session, owner: str, job_id: str, wanted: Changes) -> Job:
    """Change a job, with the event `changed` in the same transaction. Repeating it is harmless and writes nothing.

    Args:
        session: a writing one.
        owner: whose job it is.
        job_id: which job.
        wanted: the new values.

    Returns:
        The job after it.

    Raises:
        JobNotFound: see `jobs.get_job`.
        IllegalTransition: another priority, and the job is neither queued nor paused.
        InvalidRequest: a text holds what can't be stored.
    """
    metadata = wanted.get("metadata") or {}
    check_texts("name", wanted.get("name") or "")
    check_texts("note", wanted.get("note") or "")
    check_texts("metadata", *metadata, *metadata.values())
    job = get_job(session, owner, job_id)
    differing = _differing(job, wanted)
    if not differing:
        return job
    statement = update(Job).where(Job.id == job.id).values(differing)
    if "priority" in differing:
        statement = statement.where(Job.state.in_(_PRIORITY_COUNTS))
    names = sorted("metadata" if name == "labels" else name for name in differing)
    if change_and_tell(session, statement, EventType.CHANGED, data={"fields": names}) is None:
        raise IllegalTransition(
            f"job {job_id} is {get_job(session, owner, job_id).shown_state}: its priority can be changed only while it "
            "is queued or paused",
            param="priority",
        )
    if "labels" in differing:  # the job's row is locked by now, so that two changes come one after the other
        session.execute(delete(JobLabel).where(JobLabel.job_id == job.id))
        session.add_all(label_rows(job, metadata))
        session.flush()
    return get_job(session, owner, job_id)


def _differing(job: Job, wanted: Changes) -> dict[str, Any]:
    """Return the columns that would not stay as they are."""
    columns = {"labels" if name == "metadata" else name: value for name, value in wanted.items()}
    return {name: value for name, value in columns.items() if getattr(job, name) != value}
