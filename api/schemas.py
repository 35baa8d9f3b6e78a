"""Bodies that come in and go out. What comes in is strict and refuses unknown fields; what goes out is complete."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from trainyard.datasets import facts_of
from trainyard.states import ShownState
from trainyard.tables import Checkpoint, Dataset, Job, JobEvent

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


class StateChange(BaseModel):
    """One line of a job's history."""

    state: ShownState
    at: datetime
    reason: str | None


class Progress(BaseModel):
    """How far a run is, as its worker said last."""

    epoch: int
    epochs: int | None
    step: int
    steps: int | None
    fraction: float
    images_per_s: float | None
    eta_s: float | None


class JobRead(BaseModel):
    """One training run."""

    id: str
    object: Literal["job"] = "job"
    name: str | None
    state: ShownState
    state_reason: str | None
    state_history: list[StateChange]
    dataset: str
    recipe: str
    config: dict[str, Any]
    metadata: dict[str, str]
    priority: int
    owner: str
    parent_id: str | None
    seed: int
    attempt: int
    failures: int
    max_failures: int
    waiting_for: Literal["no_live_worker", "retry_backoff", "a_free_slot"] | None
    created_at: datetime
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    progress: Progress
    metrics: dict[str, Any] | None
    best: dict[str, Any] | None
    latest_checkpoint: str | None
    test: dict[str, Any] | None
    weights_sha256: str | None
    error: dict[str, Any] | None
    links: dict[str, str]

    @classmethod
    def of(cls, job: Job, changes: Iterable[JobEvent], *, moment: float, num_workers: int) -> Self:
        """The job as clients see it.

        Args:
            job: with its dataset loaded.
            changes: its state events, oldest first.
            moment: the database's clock.
            num_workers: live ones.
        """
        return cls(
            id=job.id,
            name=job.name,
            state=job.shown_state,
            state_reason=job.state_reason,
            state_history=[
                StateChange(state=ShownState(event.state), at=to_time(event.at), reason=event.reason)
                for event in changes
            ],
            dataset=job.dataset_id,
            recipe=job.recipe,
            config=job.config,
            metadata=job.labels,
            priority=job.priority,
            owner=job.owner,
            parent_id=job.parent_id,
            seed=job.seed,
            attempt=job.attempt,
            failures=job.failures,
            max_failures=job.max_failures,
            waiting_for=_waiting_for(job, moment, num_workers),
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
                "checkpoints": f"/jobs/{job.id}/checkpoints",
                "dataset": f"/datasets/{job.dataset_id}",
                "predict": f"/predict?model={job.id}",
            },
        )


class CheckpointRead(BaseModel):
    """What a job left behind at one moment."""

    id: str
    object: Literal["checkpoint"] = "checkpoint"
    job: str
    kind: Literal["epoch", "recovery"]
    epoch: int
    step: int
    metrics: dict[str, Any]
    is_best: bool
    publication: int | None
    files: dict[str, Any]
    size_bytes: int
    weights_sha256: str
    manifest_sha256: str
    created_at: datetime
    links: dict[str, str]

    @classmethod
    def of(cls, row: Checkpoint, *, is_best: bool) -> Self:
        """The checkpoint as clients see it."""
        return cls(
            id=row.id,
            job=row.job_id,
            kind="epoch" if row.kind == "epoch" else "recovery",
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


class DatasetRead(BaseModel):
    """Labelled images that jobs can train on."""

    id: str
    object: Literal["dataset"] = "dataset"
    name: str
    state: Literal["registered", "ready", "failed"]
    builtin: bool
    digest: str | None
    num_classes: int
    class_names: list[str]
    image_px: int
    channels: int
    flip_safe: bool
    num_train: int | None
    num_val: int | None
    num_test: int | None
    size_bytes: int | None
    report: dict[str, Any] | None
    created_at: datetime
    ready_at: datetime | None
    links: dict[str, str]

    @classmethod
    def of(cls, row: Dataset) -> Self:
        """The dataset as clients see it."""
        facts = facts_of(row)
        return cls.model_validate(
            facts.model_dump()
            | {
                "class_names": list(facts.class_names),
                "id": row.id,
                "name": row.name,
                "state": row.state,
                "builtin": row.owner is None,
                "digest": row.digest,
                "size_bytes": row.size_bytes,
                "report": row.report,
                "created_at": to_time(row.created_at),
                "ready_at": to_time_or_none(row.ready_at),
                "links": {"self": f"/datasets/{row.id}"},
            }
        )


class RecipeRead(BaseModel):
    """A named, complete set of hyper-parameters."""

    name: str
    object: Literal["recipe"] = "recipe"
    title: str
    description: str
    source: str
    config: dict[str, Any]
    num_parameters: int | None
    num_classes: int
    channels: int
    config_schema: dict[str, Any] | None = None
    links: dict[str, str]


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


class ModelRead(BaseModel):
    """Which checkpoint answered."""

    checkpoint: str
    job: str
    epoch: int
    alias: str | None


class LabelRead(BaseModel):
    """A class and its probability."""

    label: str
    index: int
    probability: float


class TimingRead(BaseModel):
    """Where the time went, in milliseconds; of several images the slowest."""

    preprocess_ms: float
    queue_ms: float
    inference_ms: float
    total_ms: float


class FileResult(BaseModel):
    """The result for one of several images: predictions, or the error that it has."""

    filename: str
    predictions: list[LabelRead] | None = None
    error: dict[str, Any] | None = None


class PredictRead(BaseModel):
    """The answer for one image."""

    model: ModelRead
    predictions: list[LabelRead]
    timing: TimingRead


class PredictManyRead(BaseModel):
    """The answer for several images, in their order."""

    model: ModelRead
    results: list[FileResult]
    timing: TimingRead


def to_time(seconds: float) -> datetime:
    """Seconds since 1970 as a time in UTC."""
    return datetime.fromtimestamp(round(seconds, 3), UTC)


def to_time_or_none(seconds: float | None) -> datetime | None:
    """The same where there may be none."""
    return None if seconds is None else to_time(seconds)


def finite(value: Any) -> Any:
    """A JSON value with None where it holds NaN or an infinity, which JSON has no words for."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [finite(item) for item in value]
    return value


def _progress(job: Job) -> Progress:
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


def _waiting_for(
    job: Job, moment: float, num_workers: int
) -> Literal["no_live_worker", "retry_backoff", "a_free_slot"] | None:
    if job.shown_state is not ShownState.QUEUED:
        return None
    if num_workers == 0:
        return "no_live_worker"
    return "retry_backoff" if job.not_before > moment else "a_free_slot"
