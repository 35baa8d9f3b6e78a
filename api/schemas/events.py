"""A job's events as clients see them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field

from api.schemas.base import DESCRIBED, FiniteObject, RowView, Time
from trainyard.database.tables import JobEvent
from trainyard.states import EventType, ShownState


class EventRead(BaseModel):
    """One event in a job's log, which never changes."""

    model_config = DESCRIBED

    id: str
    """Its number in the job's log, as text, for `after`; also the `id` of the event in a stream."""
    object: Literal["event"] = "event"
    job: str = Field(validation_alias="job_id")
    seq: int
    """The same number: 1, 2, 3 … without a gap."""
    at: Time
    type: EventType
    """`state`, `phase`, `started`, `checkpoint` or `warning`."""
    state: ShownState
    """The job's state after it."""
    reason: str | None
    """A code for programs: why it happened, or what kind it is."""
    lease_epoch: int
    """Number of claims of the job so far. An event of a later claim never has a smaller number."""
    worker: str | None = Field(validation_alias="worker_id")
    """Id of the worker that wrote it; null: written by a request, or by the yard itself."""
    request_id: str | None
    """Id of the request that wrote it."""
    data: FiniteObject
    """Details that depend on the type."""

    @classmethod
    def of(cls, row: JobEvent) -> Self:
        """Build the event as clients see it."""
        return cls.model_validate(RowView(row, id=str(row.seq)))
