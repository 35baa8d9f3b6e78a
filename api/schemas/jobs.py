"""Bodies that come in and go out. What comes in is strict and refuses unknown fields; what goes out is complete."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from alexnet_core.layout import CheckpointKind
from trainyard.artifacts.retries import MAX_RUNTIME_S
from trainyard.database.tables import Checkpoint, Job, JobRow
from trainyard.jobs.events import StateChange as Change
from trainyard.json_values import finite
from trainyard.scheduling.claim_order import Outlook, WaitsFor
from trainyard.states import ShownState, shown_state

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
MAX_METADATA = 16
MAX_OVERRIDES_DEPTH = 4


def _without_controls(text: str) -> str:
    if _CONTROL.search(text):
        raise ValueError("control characters are not allowed")
    return text


def _check_plain(value: Any, depth: int = 0) -> Any:
    """Overrides are a few settings: nothing deep, and no text that can't be written down."""
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


DESCRIBED = ConfigDict(use_attribute_docstrings=True)


class JobCreate(BaseModel):
    """A training run to queue. `{"dataset": "digits"}` is enough."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)

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
    """How to train a job that has ended once more."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)

    origin: str = Field(alias="from", pattern=r"^(start|latest|ckpt_[0-9a-z]{1,64})$")
    """`start`: the same job again; `latest` or the id of one of its checkpoints: go on from there."""
    overrides: Annotated[dict[str, Any], AfterValidator(_check_plain)] = Field(default_factory=dict)
    """From `start`, config fields that differ, and `max_runtime_s`; from a checkpoint only more `epochs` or
    `max_runtime_s`."""


class StateChange(BaseModel):
    """One line of a job's history."""

    model_config = DESCRIBED

    state: ShownState
    at: datetime
    reason: str | None
    """Machine-readable: `submitted`, `claimed`, `finished`, or the code of a failure."""


class Progress(BaseModel):
    """How far a run is, as its worker said last."""

    model_config = DESCRIBED

    epoch: int
    """Epochs that are complete."""
    epochs: int | None
    step: int
    """Optimiser steps that are done."""
    steps: int | None
    """All steps of the run; null until it began."""
    fraction: float
    """0 to 1."""
    images_per_s: float | None
    """Training images a second, as measured last."""
    eta_s: float | None
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
    dataset: str
    """Id of the dataset."""
    recipe: str
    config: dict[str, Any]
    """The complete training options: the recipe's, with the overrides."""
    metadata: dict[str, str]
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
    created_at: datetime
    queued_at: datetime
    """Since when it has its place in the queue: its submission or its last resume."""
    started_at: datetime | None
    """When a worker took it first."""
    finished_at: datetime | None
    worker: str | None
    """Id of the worker that has it."""
    progress: Progress
    metrics: dict[str, Any] | None
    """Of the last epoch: `train_loss`, `val_loss`, `val_top1`, `val_top5`, `seconds`."""
    best: dict[str, Any] | None
    """The epoch with the highest `val_top1`: its number, checkpoint and metrics."""
    latest_checkpoint: str | None
    """Id of the newest checkpoint."""
    test: dict[str, Any] | None
    """Once at the end, of the best checkpoint on the test split: `loss`, `top1`, `top5`, `num_images`."""
    weights_sha256: str | None
    """Of the newest checkpoint's weights; at the end, of the last weights."""
    error: dict[str, Any] | None
    """Of a failed job: `type`, `code`, `message`, `retryable`."""
    links: dict[str, str]
    """Where to go from here."""

    @classmethod
    def of(cls, job: Job | JobRow, changes: Iterable[Change], *, outlook: Outlook, position: int | None) -> Self:
        """The job as clients see it.

        Args:
            job: as it was read.
            changes: of its state, oldest first.
            outlook: how things stand for its owner.
            position: in the queue.
        """
        return cls(
            id=job.id,
            name=job.name,
            state=shown_state(job.state, job.desired),
            state_reason=job.state_reason,
            state_history=[
                StateChange(state=change.state, at=to_time(change.at), reason=change.reason) for change in changes
            ],
            dataset=job.dataset_id,
            recipe=job.recipe,
            config=job.config,
            metadata=job.labels,
            priority=job.priority,
            owner=job.owner,
            parent_id=job.parent_id,
            init_from=job.init_from,
            resume_from=job.resume_from,
            max_runtime_s=job.max_runtime_s,
            seed=job.seed,
            attempt=job.attempt,
            failures=job.failures,
            max_failures=job.max_failures,
            waiting_for=outlook.waits_for(job),
            queue_position=position,
            created_at=to_time(job.created_at),
            queued_at=to_time(job.queued_at),
            started_at=to_time_or_none(job.started_at),
            finished_at=to_time_or_none(job.finished_at),
            worker=job.lease_owner,
            progress=_progress(job),
            metrics=finite(job.metrics),
            best=finite(job.best),
            latest_checkpoint=job.latest_checkpoint_id,
            test=finite(job.test),
            weights_sha256=job.weights_sha256,
            error=job.error,
            links={
                "self": f"/jobs/{job.id}",
                "cancel": f"/jobs/{job.id}/cancel",
                "pause": f"/jobs/{job.id}/pause",
                "resume": f"/jobs/{job.id}/resume",
                "retry": f"/jobs/{job.id}/retry",
                "events": f"/jobs/{job.id}/events",
                "metrics": f"/jobs/{job.id}/metrics",
                "logs": f"/jobs/{job.id}/logs",
                "checkpoints": f"/jobs/{job.id}/checkpoints",
                "dataset": f"/datasets/{job.dataset_id}",
                "predict": f"/predict?model={job.id}",
            },
        )


class CheckpointRead(BaseModel):
    """What a job left behind at one moment."""

    model_config = DESCRIBED

    id: str
    object: Literal["checkpoint"] = "checkpoint"
    job: str
    """Id of the job that made it."""
    kind: CheckpointKind
    """`epoch`: at an epoch's end, with metrics; `recovery`: in between, to go on from."""
    epoch: int
    """Epochs that were complete."""
    step: int
    """Optimiser steps that were done."""
    metrics: dict[str, Any]
    """Of its epoch; empty for a recovery checkpoint."""
    is_best: bool
    """Whether it is its job's best."""
    publication: int | None
    """Rises with every published checkpoint of the yard; `latest` is the highest. Null: recovery."""
    files: dict[str, Any]
    """Of every file that a download holds: `sha256` and `size`."""
    size_bytes: int
    """All files together, the training state included."""
    weights_sha256: str
    """Over the tensors' names, types, shapes and values."""
    manifest_sha256: str
    """Of the file `manifest.json`, which lists the others' checksums."""
    created_at: datetime
    links: dict[str, str]

    @classmethod
    def of(cls, row: Checkpoint, *, is_best: bool) -> Self:
        """The checkpoint as clients see it."""
        return cls(
            id=row.id,
            job=row.job_id,
            kind=row.kind,
            epoch=row.epoch,
            step=row.step,
            metrics=finite(row.metrics),
            is_best=is_best,
            publication=row.publication,
            files={name: entry for name, entry in row.files.items() if not name.startswith("state/")},
            size_bytes=row.size_bytes,
            weights_sha256=row.weights_sha256,
            manifest_sha256=row.manifest_sha256,
            created_at=to_time(row.created_at),
            links={
                "self": f"/checkpoints/{row.id}",
                "download": f"/checkpoints/{row.id}/download",
                "job": f"/jobs/{row.job_id}",
                "predict": f"/predict?model={row.id}",
            },
        )


Item = TypeVar("Item", bound=BaseModel)


class ListRead(BaseModel, Generic[Item]):
    """One page of a list, newest first. The next one: `?after=<last_id>`."""

    object: Literal["list"] = "list"
    data: list[Item]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, items: Sequence[Item], *, has_more: bool, key: str = "id") -> Self:
        """A page of items that are named by their field `key`."""
        ids = [str(getattr(item, key)) for item in items]
        return cls(
            data=list(items), first_id=ids[0] if ids else None, last_id=ids[-1] if ids else None, has_more=has_more
        )


def to_time(seconds: float) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def to_time_or_none(seconds: float | None) -> datetime | None:
    """The same where there may be none."""
    return None if seconds is None else to_time(seconds)


def _progress(job: Job | JobRow) -> Progress:
    reported: dict[str, Any] = finite(job.progress or {})
    return Progress(
        epoch=reported.get("epoch") or 0,
        epochs=reported.get("epochs") or job.config.get("epochs"),
        step=reported.get("step") or 0,
        steps=reported.get("steps"),
        fraction=reported.get("fraction") or 0.0,
        images_per_s=reported.get("images_per_s"),
        eta_s=reported.get("eta_s"),
    )
