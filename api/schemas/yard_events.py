"""Events of `GET /events` that are not a whole job, dataset, checkpoint or worker."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, Field

from api.schemas.base import DESCRIBED, FiniteObject, RowView, Time
from api.schemas.jobs import Progress, progress_of
from trainyard.database.tables import Checkpoint, Job, JobRow
from trainyard.scheduling.queue_view import WaitsFor


class ProgressRead(BaseModel):
    """How far a job is, or its place in the queue: `progress`."""

    model_config = DESCRIBED

    job: str = Field(validation_alias="id")
    progress: Progress
    metrics: FiniteObject | None
    queue_position: int | None
    """As in the job; told for the first hundred of yours."""
    waiting_for: WaitsFor | None

    @classmethod
    def of(cls, job: Job | JobRow, *, position: int | None = None, waits_for: WaitsFor | None = None) -> Self:
        """Build it from a job that runs, or from one that is queued with its place."""
        beside = {"progress": progress_of(job), "queue_position": position, "waiting_for": waits_for}
        return cls.model_validate(RowView(job, **beside))


class GoneRead(BaseModel):
    """What was deleted or can't be used any more: `gone`. It has one of these fields."""

    model_config = DESCRIBED

    job: str | None = None
    dataset: str | None = None
    checkpoint: str | None = None

    @classmethod
    def of(cls, subject_id: str) -> Self:
        """Build it from an id."""
        kind = {"job_": "job", "ds_": "dataset", "ckpt_": "checkpoint"}[subject_id.partition("_")[0] + "_"]
        return cls(**{kind: subject_id})


class ServingRead(BaseModel):
    """The checkpoint that `latest` names from now on: `serving`."""

    model_config = DESCRIBED

    checkpoint: str = Field(validation_alias="id")
    job: str = Field(validation_alias="job_id")
    epoch: int

    @classmethod
    def of(cls, row: Checkpoint) -> Self:
        """Build it from the checkpoint."""
        return cls.model_validate(row)


class TickRead(BaseModel):
    """A sign every five seconds that the stream lives: `tick`."""

    at: Time
    """By the clock of the API's machine."""


class ResetRead(BaseModel):
    """Events were missed, since they are not kept any more: read everything anew. The stream goes on: `reset`."""

    number: int
    """Of the last event before those that follow."""
