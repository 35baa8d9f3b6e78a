"""Workers, and the queue in the order in which it will be processed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, Self

from pydantic import BaseModel, Field, computed_field

from api.schemas.base import DESCRIBED, ListRead, RowView, Time
from api.schemas.jobs import wanted_of
from trainyard.database.tables import NOT_YET, Job, Worker
from trainyard.scheduling.queue_view import Waiting, WaitsFor
from trainyard.scheduling.workers import DeviceReading, WorkerState, readings_of, state_of


class SlotRead(BaseModel):
    """A slot, in which a worker trains one job at a time."""

    model_config = DESCRIBED

    device: str
    """`cpu`, `cuda:0`, …"""
    busy: bool
    """Whether a job, anybody's, is in the slot."""
    job: str | None
    """Id of that job, if it is yours."""
    device_name: str | None
    """The device as its maker calls it, such as `NVIDIA H100 80GB HBM3`. This and the following are null where nothing
    tells: of a CPU, and where the driver does not."""
    memory_bytes: int | None
    """The device's memory."""
    memory_used_bytes: int | None
    """How much of it is used, by any program. Null, too, if the worker is not there any more."""
    utilisation: float | None
    """How busy the device is, from 0 to 1: the part of the last second or less in which it computed. Null, too, if the
    worker is not there any more."""

    @classmethod
    def of(cls, device: str, job: Job | None, reading: DeviceReading | None, *, is_own: bool, is_there: bool) -> Self:
        """Build the slot: a device, the job in it, and what the worker's last heartbeat told of the device.

        Args:
            device: its name in PyTorch.
            job: the job in the slot, if any.
            reading: how full and how busy the device was.
            is_own: whether the job is the caller's.
            is_there: whether the worker sends heartbeats; else what its last one told is not so any more.
        """
        return cls(
            device=device,
            busy=job is not None,
            job=job.id if job is not None and is_own else None,
            device_name=reading.name if reading else None,
            memory_bytes=reading.memory_bytes if reading else None,
            memory_used_bytes=reading.memory_used_bytes if reading and is_there else None,
            utilisation=reading.utilisation if reading and is_there else None,
        )


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
        state, held = state_of(row, moment), {job.slot: job for job in jobs}
        is_there = state in (WorkerState.LIVE, WorkerState.DRAINING)
        slots = []
        for index, (device, reading) in enumerate(zip(row.devices, readings_of(row), strict=True)):
            job = held.get(index)
            is_own = job is not None and job.owner == caller
            slots.append(SlotRead.of(device, job, reading, is_own=is_own, is_there=is_there))
        return cls.model_validate(RowView(row, state=state, slots=slots))


class WorkersRead(ListRead[WorkerRead]):
    """One page of workers, the last started first."""

    counts: dict[WorkerState, int]
    """The workers of the last day in each state, whatever the filter."""


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
