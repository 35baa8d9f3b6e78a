"""Bodies for jobs and checkpoints. Requests are strict and refuse unknown fields; responses are complete."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, computed_field

from alexnet_core.layout import CheckpointKind, is_of_state
from api.schemas.base import DESCRIBED, STRICT, FiniteObject, RowView, Time
from trainyard.artifacts.retries import MAX_RUNTIME_S
from trainyard.database.tables import Checkpoint, Job, JobRow
from trainyard.jobs.events import StateChange as Change
from trainyard.json_values import finite
from trainyard.scheduling.queue_view import Outlook, WaitsFor
from trainyard.states import ShownState, shown_state

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
MAX_METADATA = 16
MAX_OVERRIDES_DEPTH = 4


def _without_controls(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    return text


def _check_plain(value: Any, depth: int = 0) -> Any:
    """Check that overrides are a few plain settings: not deeply nested, and without text that can't be stored."""
    if depth > MAX_OVERRIDES_DEPTH:
        raise ValueError(f"nested deeper than {MAX_OVERRIDES_DEPTH} levels")
    if isinstance(value, str):
        _without_controls(value)
    elif isinstance(value, dict):
        for key, item in value.items():
            _without_controls(key)
            _check_plain(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, depth + 1)
    return value


Name = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_without_controls)]
Reference = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_without_controls)]
MetadataKey = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_without_controls)]
MetadataValue = Annotated[str, Field(max_length=512), AfterValidator(_without_controls)]


class JobCreate(BaseModel):
    """A training run to queue. `{"dataset": "digits"}` is enough."""

    model_config = STRICT

    dataset: Reference
    """Id or name of the dataset."""
    recipe: Reference | None = None
    """Name of a recipe. Default: the one that fits the dataset's image size."""
    overrides: Annotated[dict[str, Any], AfterValidator(_check_plain)] = Field(default_factory=dict)
    """Config fields that differ from the recipe, such as `{"epochs": 3, "lr": 0.01}`."""
    name: Name | None = None
    """A name to know the job by; need not be unique."""
    metadata: dict[MetadataKey, MetadataValue] = Field(default_factory=dict, max_length=MAX_METADATA)
    """Up to 16 pairs of strings; `GET /jobs?metadata[key]=value` finds the job by them."""
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    """Of everything random in the run. Default: drawn, and recorded in the job."""
    priority: int = Field(0, ge=-100, le=100)
    """A job of a higher priority is claimed before yours of a lower one."""
    max_runtime_s: float | None = Field(None, gt=0, le=MAX_RUNTIME_S)
    """Seconds of training, all attempts together, after which the job saves its step and fails with `max_runtime`."""
    init_from: Reference | None = None
    """Id of a checkpoint of yours whose weights the job begins with; the last layer starts anew for other classes."""


class JobRetry(BaseModel):
    """How to train a job that has ended again."""

    model_config = STRICT

    origin: str = Field(alias="from", pattern=r"^(start|latest|ckpt_[0-9a-z]{1,64})$")
    """`start`: the same job again; `latest` or the id of one of its checkpoints: go on from there."""
    overrides: Annotated[dict[str, Any], AfterValidator(_check_plain)] = Field(default_factory=dict)
    """From `start`, config fields that differ, and `max_runtime_s`; from a checkpoint only more `epochs` or
    `max_runtime_s`."""


class StateChange(BaseModel):
    """One change of a job's state."""

    model_config = DESCRIBED

    state: ShownState
    at: Time
    reason: str | None
    """Machine-readable: `submitted`, `claimed`, `finished`, or the code of a failure."""


class Progress(BaseModel):
    """How far a run is, as its worker last reported."""

    model_config = DESCRIBED

    epoch: int = 0
    """Epochs that are complete."""
    epochs: int | None = None
    step: int = 0
    """Optimiser steps that are done."""
    steps: int | None = None
    """All steps of the run; null until it began."""
    fraction: float = 0.0
    """0 to 1."""
    images_per_s: float | None = None
    """Training images a second, as measured last."""
    eta_s: float | None = None
    """Seconds to the last step, at the present speed."""


class JobRead(BaseModel):
    """One training run."""

    model_config = DESCRIBED

    id: str
    object: Literal["job"] = "job"
    name: str | None
    state: ShownState
    """What it does now; the last three are final."""
    state_reason: str | None
    """Why it is in this state."""
    state_history: list[StateChange]
    """Every change of `state`, oldest first."""
    dataset: str = Field(validation_alias="dataset_id")
    """Id of the dataset."""
    recipe: str
    config: dict[str, Any]
    """The complete training options: the recipe's, with the overrides."""
    metadata: dict[str, str] = Field(validation_alias="labels")
    priority: int
    """The highest is claimed first."""
    owner: str
    parent_id: str | None
    """The job that this one retries; null where there is none, or where it was deleted."""
    init_from: str | None
    """The checkpoint whose weights it began with."""
    resume_from: str | None
    """Of a retry: the checkpoint that it goes on from."""
    max_runtime_s: float | None
    """Seconds of training after which it ends."""
    seed: int
    """Of everything random in the run."""
    attempt: int
    """How often a worker has taken the job; for information."""
    failures: int
    """Crashes, hangs and lost leases since the last new checkpoint."""
    max_failures: int
    """So many `failures` end the job as `failed` with `crash_loop`."""
    waiting_for: WaitsFor | None
    """What a queued job waits for right now; `GET /queue` says the same."""
    queue_position: int | None
    """Of a queued job, from 1, over all owners' jobs; null where it is none of the first thousand."""
    created_at: Time
    queued_at: Time
    """Since when it has its place in the queue: its submission or its last resume."""
    started_at: Time | None
    """When a worker took it first."""
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
    """Once at the end, of the best checkpoint on the test split: `loss`, `top1`, `top5`, `num_images`, and `chosen_on`:
    the split that chose the epoch (`validation`, `test` or `none`)."""
    weights_sha256: str | None
    """Of the newest checkpoint's weights; at the end, of the last weights."""
    error: dict[str, Any] | None
    """Of a failed job: `type`, `code`, `message`, `retryable`."""

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
        view = RowView(
            job,
            state=shown_state(job.state, job.desired),
            state_history=list(changes),
            waiting_for=outlook.waits_for(job),
            queue_position=position,
            progress=_progress(job),
        )
        return cls.model_validate(view)


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
    """`epoch`: at an epoch's end, with metrics; `recovery`: in between, to go on from."""
    epoch: int
    """Epochs that were complete."""
    step: int
    """Optimiser steps that were done."""
    metrics: FiniteObject
    """Of its epoch; empty for a recovery checkpoint."""
    is_best: bool
    """Whether it is its job's best."""
    publication: int | None
    """Rises with every published checkpoint of the yard; `latest` is the highest. Null: recovery."""
    files: Annotated[dict[str, Any], BeforeValidator(_without_state)]
    """Of every file that a download holds: `sha256` and `size`."""
    size_bytes: int
    """All files together, the training state included."""
    weights_sha256: str
    """Over the tensors' names, types, shapes and values."""
    manifest_sha256: str
    """Of the file `manifest.json`, which lists the others' checksums."""
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


def _progress(job: Job | JobRow) -> Progress:
    reported = {name: value for name, value in finite(job.progress or {}).items() if value is not None}
    return Progress.model_validate({"epochs": job.config.get("epochs")} | reported)
