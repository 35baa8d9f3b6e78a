"""Workers, and the queue in the order in which it will be processed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, Field, computed_field

from api.schemas.base import DESCRIBED, RowView, Time
from api.schemas.jobs import wanted_of
from trainyard.database.tables import NOT_YET, Job, Worker
from trainyard.scheduling.queue_view import Waiting, WaitsFor
from trainyard.scheduling.workers import WorkerState, state_of


class SlotRead(BaseModel):
    """A slot, in which a worker trains one job at a time."""

    model_config = DESCRIBED

    device: str
    """`cpu`, `cuda:0`, …"""
    busy: bool
    """Whether a job, anybody's, is in the slot."""
    job: str | None
    """Id of that job, if it is yours."""


class WorkerRead(BaseModel):
    """A worker process."""

    model_config = DESCRIBED

    id: str
    object: Literal["worker"] = "worker"
    host: str
    pid: int
    """Id of its process on that host."""
    state: WorkerState
    """`live`: takes jobs; `draining`: finishes with its jobs and takes no more; `lost`: was not seen for 15 seconds;
    `stopped`: ended normally."""
    version: str
    slots: list[SlotRead]
    started_at: Time
    last_seen_at: Time
    stopped_at: Time | None

    @classmethod
    def of(cls, row: Worker, jobs: Iterable[Job], *, moment: float, caller: str) -> Self:
        """Build the worker as a caller sees it.

        Args:
            row: the worker.
            jobs: those it has.
            moment: the database's clock.
            caller: who asks; of others' jobs only the slot is told.
        """
        held = {job.slot: job for job in jobs}
        slots = []
        for index, device in enumerate(row.devices):
            job = held.get(index)
            own = job is not None and job.owner == caller
            slots.append(SlotRead(device=device, busy=job is not None, job=job.id if job is not None and own else None))
        return cls.model_validate(RowView(row, state=state_of(row, moment), slots=slots))


class QueuedJobRead(BaseModel):
    """A job in the queue."""

    model_config = DESCRIBED

    id: str
    """Id of the job."""
    object: Literal["queued_job"] = "queued_job"
    position: int
    """From 1; jobs of other owners count, but only yours are listed."""
    waiting_for: WaitsFor
    """What it waits for right now."""
    name: str | None
    dataset: str = Field(validation_alias="dataset_id")
    recipe: str | None
    """Null: none was named, and which one fits is known when the dataset is ready."""
    priority: int
    queued_at: Time
    """When it got its place in the queue."""
    due_at: Time | None
    """It is not tried again before this time; null: it may start at any time."""

    @computed_field  # type: ignore[prop-decorator]  # mypy: no decorator above `property`
    @property
    def links(self) -> dict[str, str]:
        """Paths to related resources."""
        return {"job": f"/jobs/{self.id}", "cancel": f"/jobs/{self.id}/cancel"}

    @classmethod
    def of(cls, entry: Waiting) -> Self:
        """Build the entry as clients see it."""
        job = entry.job
        due_at = job.not_before if 0 < job.not_before < NOT_YET else None
        beside = {"position": entry.position, "waiting_for": entry.waits_for, "due_at": due_at}
        return cls.model_validate(RowView(job, **beside, recipe=wanted_of(job)["recipe"]))
