"""A job's events as they go out."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal, Self

from pydantic import BaseModel

from api.schemas.jobs import DESCRIBED, to_time
from trainyard.database.tables import JobEvent
from trainyard.json_values import finite
from trainyard.states import EventType, ShownState


class EventRead(BaseModel):
    """One line of a job's log; never changed once it is there."""

    model_config = DESCRIBED

    id: str
    """Its number in the job's log, as text: a cursor, and the `id` of the event in a stream."""
    object: Literal["event"] = "event"
    job: str
    seq: int
    """The same number: 1, 2, 3 … without a gap."""
    at: datetime
    type: EventType
    """`state`, `phase`, `started`, `checkpoint` or `warning`."""
    state: ShownState
    """The job's state after it."""
    reason: str | None
    """Machine-readable: why, or what of."""
    lease_epoch: int
    """Claims of the job so far: an event of a later claim never has a smaller number."""
    worker: str | None
    """Id of the worker that wrote it; null: a request, or the yard itself."""
    request_id: str | None
    """Of the request that wrote it."""
    data: dict[str, Any]
    """What else there is to say, by type."""

    @classmethod
    def of(cls, row: JobEvent) -> Self:
        """The event as clients see it."""
        return cls(
            id=str(row.seq),
            job=row.job_id,
            seq=row.seq,
            at=to_time(row.at),
            type=row.type,
            state=row.state,
            reason=row.reason,
            lease_epoch=row.lease_epoch,
            worker=row.worker_id,
            request_id=row.request_id,
            data=finite(row.data),
        )
