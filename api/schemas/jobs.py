"""Bodies for jobs and checkpoints. Requests are strict and refuse unknown fields; responses are complete."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, Self, cast

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, computed_field, model_validator

from alexnet_core.layout import CheckpointKind, is_of_state
from api.schemas.base import (
    DESCRIBED,
    STRICT,
    FiniteObject,
    ListRead,
    Name,
    Note,
    Reference,
    RowView,
    Time,
    without_controls,
)
from trainyard.artifacts.retries import MAX_RUNTIME_S
from trainyard.database.tables import Checkpoint, Job, JobRow
from trainyard.jobs.changes import Changes
from trainyard.jobs.events import StateChange as Change
from trainyard.json_values import finite
from trainyard.scheduling.queue_view import Outlook, WaitsFor
from trainyard.states import ShownState, shown_state

MAX_METADATA = 16
MAX_OVERRIDES_DEPTH = 4


def check_plain(value: Any, depth: int = 0) -> Any:
    """Check that overrides are a few plain settings: not deeply nested, and without text that can't be stored."""
    if depth > MAX_OVERRIDES_DEPTH:
        raise ValueError(f"nested deeper than {MAX_OVERRIDES_DEPTH} levels")
    if isinstance(value, str):
        without_controls(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            without_controls(key)
            check_plain(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            check_plain(item, depth + 1)
    return value


MetadataKey = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(without_controls)]
MetadataValue = Annotated[str, Field(max_length=512), AfterValidator(without_controls)]


class JobCreate(BaseModel):
    """A training run to queue. `{"dataset": "digits"}` is enough."""

    model_config = STRICT

    dataset: Reference
    """Id or name of the dataset."""
    recipe: Reference | None = None
    """Name of a recipe. Default: the one that fits the dataset's image size."""
    overrides: Annotated[dict[str, Any], AfterValidator(check_plain)] = Field(default_factory=dict)
    """Config fields that differ from the recipe, such as `{"epochs": 3, "lr": 0.01}`."""
    name: Name | None = None
    """A name of your choice; need not be unique."""
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=MAX_METADATA)
    """Up to 16 pairs of strings; `GET /jobs?metadata[key]=value` finds the job by them."""
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    """Seed of everything random in the run. Default: drawn at random, and recorded in the job."""
    priority: int = Field(0, ge=-100, le=100)
    """A job with a higher priority is claimed before your jobs with a lower one."""
    max_runtime_s: float | None = Field(None, gt=0, le=MAX_RUNTIME_S)
    """Seconds of training, all attempts together, after which the job saves its step and fails with `max_runtime`."""
    init_from: Reference | None = None
    """Id of a checkpoint of yours with whose weights the job begins; for other classes the last layer is new."""


class JobChange(BaseModel):
    """What is to be changed of a job; a field that is left out stays as it is."""

    model_config = STRICT

    name: Name | None = None
    """Another name; null: none."""
    note: Note | None = None
    """What you want to remember about the job, at most 2000 characters in any number of lines; null: nothing."""
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=MAX_METADATA)
    """Up to 16 pairs of strings, which replace all that it has."""
    priority: int = Field(0, ge=-100, le=100)
    """Another priority; only while the job is queued or paused."""

    @model_validator(mode="after")
    def _check_any(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("name a field to change: name, note, metadata or priority")
        return self

    @property
    def given(self) -> Changes:
        """The fields that were sent."""
        return cast(Changes, self.model_dump(include=self.model_fields_set))


class JobRetry(BaseModel):
    """How to train a job that has ended again."""

    model_config = STRICT

    origin: str = Field(alias="from", pattern=r"^(start|latest|ckpt_[0-9a-z]{1,64})$")
    """`start`: the same job again; `latest` or the id of one of its checkpoints: continue from there."""
    overrides: Annotated[dict[str, Any], AfterValidator(check_plain)] = Field(default_factory=dict)
    """From `start`: config fields that differ, and `max_runtime_s`. From a checkpoint: only more `epochs` or
    `max_runtime_s`."""


class StateChange(BaseModel):
    """One change of a job's state."""

    model_config = DESCRIBED

    state: ShownState
    at: Time
    reason: str | None
    """A code for programs: `submitted`, `claimed`, `finished`, or the code of a failure."""


class Progress(BaseModel):
    """How far a run is, as its worker last reported."""

    model_config = DESCRIBED

    epoch: int = 0
    """Epochs that are complete."""
    epochs: int | None = None
    step: int = 0
    """Optimiser steps that are done."""
    steps: int | None = None
    """Number of steps of the whole run; null until it has begun."""
    fraction: float = 0.0
    """0 to 1."""
    images_per_s: float | None = None
    """Training images a second, as last measured."""
    eta_s: float | None = None
    """Seconds to the last step, at the present speed."""


class JobFields(BaseModel):
    """What every view of a training run shows."""

    model_config = DESCRIBED

    id: str
    object: Literal["job"] = "job"
    name: str | None
    note: str | None
    """What its owner wrote about it."""
    state: ShownState
    """What it does now; the last three are final."""
    state_reason: str | None
    """Why it is in this state."""
    dataset: str = Field(validation_alias="dataset_id")
    """Id of the dataset."""
    recipe: str | None
    """Null: none was named, and which one fits is known when the dataset is ready."""
    metadata: dict[str, str] = Field(validation_alias="labels")
    priority: int
    """The highest is claimed first."""
    owner: str
    parent_id: str | None
    """The job that this one retries; null if there is none, or if it was deleted."""
    init_from: str | None
    """The checkpoint whose weights it began with."""
    resume_from: str | None
    """For a retry: the checkpoint that it continues from."""
    max_runtime_s: float | None
    """Seconds of training after which the job ends."""
    seed: int
    """Seed of everything random in the run."""
    attempt: int
    """How often a worker has taken the job; for information only."""
    failures: int
    """Crashes, hangs and lost leases since the last new checkpoint."""
    max_failures: int
    """With this number of `failures` the job ends as `failed` with `crash_loop`."""
    waiting_for: WaitsFor | None
    """What a queued job waits for right now; `GET /queue` says the same."""
    queue_position: int | None
    """For a queued job: its place from 1, over all owners' jobs; null if it is not among the first thousand."""
    created_at: Time
    queued_at: Time
    """When it got its place in the queue: at its submission or its last resume."""
    started_at: Time | None
    """When a worker first took it."""
    finished_at: Time | None
    worker: str | None = Field(validation_alias="lease_owner")
    """Id of the worker that has it."""
    progress: Progress
    metrics: FiniteObject | None
    """Of the last epoch: `train_loss`, `val_loss`, `val_top1`, `val_top5`, `seconds`; without validation no `val_…`."""
    best: FiniteObject | None
    """The epoch with the highest `val_top1`, without validation the last one: its number, checkpoint and metrics."""
    latest_checkpoint: str | None = Field(validation_alias="latest_checkpoint_id")
    """Id of the newest checkpoint."""
    test: FiniteObject | None
    """Results of the best checkpoint on the test split, once at the end: `loss`, `top1`, `top5`, `num_images`, and
    `chosen_on`: the split that chose the epoch (`validation`, `test` or `none`)."""
    weights_sha256: str | None
    """Hash of the newest checkpoint's weights; at the end, of the last weights."""
    error: dict[str, Any] | None
    """For a failed job: `type`, `code`, `message`, `retryable`."""


class JobRead(JobFields):
    """One training run."""

    state_history: list[StateChange]
    """Every change of `state`, oldest first."""
    config: dict[str, Any]
    """The complete training options: the recipe's, with the overrides. Until the dataset is ready: the overrides."""

    @computed_field  # type: ignore[prop-decorator]  # mypy: no decorator above `property`
    @property
    def links(self) -> dict[str, str]:
        """Paths to related resources."""
        here = f"/jobs/{self.id}"
        below = ("cancel", "pause", "resume", "retry", "events", "metrics", "logs", "checkpoints")
        return (
            {"self": here}
            | {name: f"{here}/{name}" for name in below}
            | {"dataset": f"/datasets/{self.dataset}", "predict": f"/predict?model={self.id}"}
        )

    @classmethod
    def of(cls, job: Job | JobRow, changes: Iterable[Change], *, outlook: Outlook, position: int | None) -> Self:
        """Build the job as clients see it.

        Args:
            job: as it was read.
            changes: of its state, oldest first.
            outlook: how things stand for its owner.
            position: in the queue.
        """
        return cls.model_validate(RowView(job, **_told_of(job, outlook, position), state_history=list(changes)))


class JobRowRead(JobFields):
    """One training run as a row of a list: without its options, history and links, and with its loss as a curve."""

    spark: list[float]
    """Up to 24 training losses at evenly spaced steps, oldest first: a small curve. Empty: none was reported yet."""

    @classmethod
    def of(cls, job: JobRow, spark: Sequence[float], *, outlook: Outlook, position: int | None) -> Self:
        """Build the row; for the arguments see `JobRead.of`."""
        return cls.model_validate(RowView(job, **_told_of(job, outlook, position), spark=list(spark)))


class JobRowsRead(ListRead[JobRowRead]):
    """One page of rows, newest first."""

    counts: dict[ShownState, int]
    """Your jobs in each state that match the filters; the filter `state` does not count."""


def _without_state(files: dict[str, Any]) -> dict[str, Any]:
    """Return the files that a download contains, without those of the training state."""
    return {name: entry for name, entry in files.items() if not is_of_state(name)}


class CheckpointRead(BaseModel):
    """A checkpoint of a job."""

    model_config = DESCRIBED

    id: str
    object: Literal["checkpoint"] = "checkpoint"
    job: str = Field(validation_alias="job_id")
    """Id of the job that made it."""
    kind: CheckpointKind
    """`epoch`: made at the end of an epoch, with metrics; `recovery`: made in between, to resume from."""
    epoch: int
    """Number of complete epochs."""
    step: int
    """Number of optimiser steps done."""
    metrics: FiniteObject
    """Metrics of its epoch; empty for a recovery checkpoint."""
    is_best: bool
    """Whether it is its job's best."""
    publication: int | None
    """A number that rises with every published checkpoint of the yard; `latest` has the highest. Null: recovery."""
    files: Annotated[dict[str, Any], BeforeValidator(_without_state)]
    """`sha256` and `size` of every file in a download."""
    size_bytes: int
    """Size of all files together, including the training state."""
    weights_sha256: str
    """Hash over the tensors' names, types, shapes and values."""
    manifest_sha256: str
    """Hash of the file `manifest.json`, which lists the checksums of the others."""
    created_at: Time

    @computed_field  # type: ignore[prop-decorator]  # mypy: no decorator above `property`
    @property
    def links(self) -> dict[str, str]:
        """Paths to related resources."""
        here = f"/checkpoints/{self.id}"
        return {
            "self": here,
            "download": f"{here}/download",
            "job": f"/jobs/{self.job}",
            "predict": f"/predict?model={self.id}",
        }

    @classmethod
    def of(cls, row: Checkpoint, *, is_best: bool) -> Self:
        """Build the checkpoint as clients see it."""
        return cls.model_validate(RowView(row, is_best=is_best))


def wanted_of(job: Job | JobRow) -> dict[str, Any]:
    """Return the recipe and config of a job; for one that waits for its dataset, what was asked for."""
    if job.recipe:
        return {"recipe": job.recipe, "config": job.config}
    return {"recipe": job.config.get("recipe"), "config": job.config.get("overrides") or {}}


def _told_of(job: Job | JobRow, outlook: Outlook, position: int | None) -> dict[str, Any]:
    return wanted_of(job) | {
        "state": shown_state(job.state, job.desired),
        "waiting_for": outlook.waits_for(job),
        "queue_position": position,
        "progress": progress_of(job),
    }


def progress_of(job: Job | JobRow) -> Progress:
    """Return how far a job is, as its worker last reported."""
    reported = {name: value for name, value in finite(job.progress or {}).items() if value is not None}
    return Progress.model_validate({"epochs": wanted_of(job)["config"].get("epochs")} | reported)
