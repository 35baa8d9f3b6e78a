"""The bodies of a job's series, and of several jobs' together."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from api.schemas.base import DESCRIBED


class SeriesRead(BaseModel):
    """Both series of a job, in the order of their steps; each point has `step` and `epoch`."""

    model_config = DESCRIBED

    by_step: list[dict[str, Any]]
    """Every few steps: `train_loss`, `lr`, `images_per_s`, and `seconds`: of training so far, over all attempts. With
    `band` also `train_loss_min` and `train_loss_max`, of all the points that this one stands for."""
    by_epoch: list[dict[str, Any]]
    """At the end of each epoch: `train_loss`, `val_loss`, `val_top1`, `val_top5`, and `seconds`: of this epoch alone,
    with its validation."""
    last_step: int | None
    """The newest step here, for the next `after`. Null: there is nothing new."""
    thinned: bool
    """Whether there are more points than these."""


class MetricsRead(SeriesRead):
    """Both series of a job, in the order of their steps; each point has `step` and `epoch`."""

    object: Literal["metrics"] = "metrics"
    job: str


class SeriesOfJobs(BaseModel):
    """The series of several jobs."""

    model_config = DESCRIBED

    object: Literal["series"] = "series"
    data: dict[str, SeriesRead]
    """By the id of the job, in the order that was asked for."""
