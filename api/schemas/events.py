"""Events of jobs, datasets and predictions as clients see them."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, Field

from api.schemas.base import DESCRIBED, FiniteObject, RowView, Time
from trainyard.artifacts.dataset_intake import dataset_state_after
from trainyard.database.tables import JobEvent
from trainyard.states import DatasetState, EventType, ShownState

VALIDATION, PREDICTION = "val_", "pred_"  # ids of validations, and of predictions, begin so


class LoggedEvent(BaseModel):
    """One event in a log, which never changes."""

    model_config = DESCRIBED

    id: str
    """Its number in the log, as text, for `after`; also the `id` of the event in a stream."""
    object: Literal["event"] = "event"
    seq: int
    """The same number: 1, 2, 3 … without a gap."""
    at: Time
    type: EventType
    """`state`, `phase`, `started`, `checkpoint`, `warning`, `changed` or `results`."""
    reason: str | None
    """A code for programs: why it happened, or what kind it is."""
    lease_epoch: int
    """Number of claims so far. An event of a later claim never has a smaller number."""
    worker: str | None = Field(validation_alias="worker_id")
    """Id of the worker that wrote it; null: written by a request, or by the yard itself."""
    request_id: str | None
    """Id of the request that wrote it."""
    data: FiniteObject
    """Details that depend on the type."""


class EventRead(LoggedEvent):
    """One event in a job's log, which never changes."""

    job: str = Field(validation_alias="job_id")
    state: ShownState
    """The job's state after it."""

    @classmethod
    def of(cls, row: JobEvent) -> Self:
        """Build the event as clients see it."""
        return cls.model_validate(RowView(row, id=str(row.seq)))


class DatasetEventRead(LoggedEvent):
    """One event in a dataset's log, which never changes."""

    dataset: str
    state: DatasetState
    """The dataset's state after it."""

    @classmethod
    def of(cls, row: JobEvent) -> Self:
        """Build the event of a validation as clients see it."""
        dataset_id = f"ds_{row.job_id.removeprefix(VALIDATION)}"
        return cls.model_validate(RowView(row, id=str(row.seq), dataset=dataset_id, state=dataset_state_after(row)))


class PredictionEventRead(LoggedEvent):
    """One event in a prediction's log, which never changes."""

    prediction: str = Field(validation_alias="job_id")
    state: ShownState
    """The prediction's state after it."""

    @classmethod
    def of(cls, row: JobEvent) -> Self:
        """Build the event as clients see it."""
        return cls.model_validate(RowView(row, id=str(row.seq)))


def read_event(row: JobEvent) -> EventRead | DatasetEventRead | PredictionEventRead:
    """Build an event of any log."""
    if row.job_id.startswith(PREDICTION):
        return PredictionEventRead.of(row)
    return DatasetEventRead.of(row) if row.job_id.startswith(VALIDATION) else EventRead.of(row)
