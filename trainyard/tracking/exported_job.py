"""Reads of a job what an experiment tracker keeps: its parameters, its points, and its results."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from trainyard.client import ApiError, Client
from trainyard.client.kinds import FINAL_STATES
from trainyard.client.models import Dataset, Job
from trainyard.client.series import Metrics

MAX_POINTS = (
    5000  #: of each series: the most that the API returns; the lowest losses and the best epochs are among them
)
#: The API's names, and those of the TensorBoard files, which trackers show in groups.
_BY_STEP = {"train_loss": "train/loss", "lr": "train/lr", "images_per_s": "train/images_per_s"}
_BY_EPOCH = {
    "epoch": "epoch",
    "train_loss": "train/epoch_loss",
    "val_loss": "val/loss",
    "val_top1": "val/top1",
    "val_top5": "val/top5",
}
_AT_THE_END = {"loss": "test/loss", "top1": "test/top1", "top5": "test/top5"}


@dataclass(frozen=True)
class Point:
    """What was measured at one optimiser step; `at` is the start of the job plus the seconds of training so far."""

    step: int
    at: datetime
    values: dict[str, float]


@dataclass(frozen=True)
class ExportedJob:
    """A job, its dataset unless that was deleted, and its series."""

    job: Job
    dataset: Dataset | None
    metrics: Metrics

    @property
    def id(self) -> str:
        """Return the job's id."""
        return str(self.job["id"])

    @property
    def title(self) -> str:
        """Return the job's name; its id, if it has none."""
        return str(self.job["name"] or self.job["id"])

    @property
    def has_ended(self) -> bool:
        """Whether the job is in a final state."""
        return self.job["state"] in FINAL_STATES

    @property
    def started_at(self) -> datetime:
        """Return when a worker first took the job; when it was made, if none did."""
        return datetime.fromisoformat(self.job["started_at"] or self.job["created_at"])

    @property
    def finished_at(self) -> datetime | None:
        """Return when the job ended."""
        return datetime.fromisoformat(self.job["finished_at"]) if self.job["finished_at"] else None

    @property
    def checkpoint(self) -> str | None:
        """Return the id of the best checkpoint; where no epoch is complete, of the newest one."""
        found = (self.job["best"] or {}).get("checkpoint") or self.job["latest_checkpoint"]
        return None if found is None else str(found)

    def list_parameters(self) -> dict[str, Any]:
        """Return the training options, and what was trained on; options within options have names with a dot."""
        dataset = self.dataset
        named = {
            "dataset": dataset["name"] if dataset else self.job["dataset"],
            "dataset_id": self.job["dataset"],
            "recipe": self.job["recipe"],
            "seed": self.job["seed"],
            "init_from": self.job["init_from"],
        }
        return {name: value for name, value in named.items() if value is not None} | _flatten(self.job["config"])

    def list_points(self) -> list[Point]:
        """Return what was measured, in the order of the steps; a value that is no number is left out.

        The results on the test images stand at the last step, once the job has ended.
        """
        values: dict[int, dict[str, float]] = defaultdict(dict)
        for rows, names in ((self.metrics["by_step"], _BY_STEP), (self.metrics["by_epoch"], _BY_EPOCH)):
            for row in rows:
                values[row["step"]].update(_rename(row, names))
        if self.has_ended and self.job["test"] and values:
            values[max(values)].update(_rename(self.job["test"], _AT_THE_END))
        return [Point(step, self._time_of(step), values[step]) for step in sorted(values)]

    def _time_of(self, step: int) -> datetime:
        """Return when a step was done; of one between two points that of the earlier point."""
        rows = self.metrics["by_step"]
        number = bisect_right(rows, step, key=lambda row: row["step"])
        return self.started_at + timedelta(seconds=rows[number - 1].get("seconds") or 0.0 if number else 0.0)


def read_job(client: Client, job: Job) -> ExportedJob:
    """Read what is exported of a job.

    Raises:
        ApiError: the job was just deleted.
    """
    try:
        dataset = client.get_dataset(job["dataset"])
    except ApiError as exc:
        if exc.status != 404:
            raise
        dataset = None
    return ExportedJob(job, dataset, client.get_metrics(job["id"], max_points=MAX_POINTS))


def _rename(row: dict[str, Any], names: dict[str, str]) -> dict[str, float]:
    return {new: float(row[old]) for old, new in names.items() if row.get(old) is not None}


def _flatten(options: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
