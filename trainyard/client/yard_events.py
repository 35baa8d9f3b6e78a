"""The events of a whole yard, as typed objects."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from trainyard.client.answers import Answer
from trainyard.client.models import Checkpoint, Dataset, JobRow, Progress, Worker


class JobProgress(Answer):
    """How far a job is, or its place in the queue."""

    job: str
    progress: Progress
    metrics: dict[str, Any] | None
    queue_position: int | None
    waiting_for: str | None


_KINDS: dict[str, type[Answer]] = {
    "job": JobRow,
    "checkpoint": Checkpoint,
    "dataset": Dataset,
    "progress": JobProgress,
    "worker": Worker,
}


@dataclass(frozen=True)
class YardEvent:
    """What has changed on a yard."""

    kind: str
    """`job`, `gone`, `checkpoint`, `dataset`, `progress`, `worker`, `serving`, `reset` or `tick`."""
    number: int | None
    """Its number, for `after`; None: it has none, and comes again after a break if it still holds."""
    data: Answer
    """A `JobRow`, `Checkpoint`, `Dataset`, `JobProgress` or `Worker`; of the other kinds the fields that came."""


def read_yard_event(kind: str, number: int | None, data: dict[str, Any]) -> YardEvent:
    """Build an event out of what came."""
    return YardEvent(kind, number, _KINDS.get(kind, Answer).read(data))
