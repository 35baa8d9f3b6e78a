"""The bodies of `/v1/fine_tuning`: OpenAI's objects, as far as a training run here has what they tell."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, Field

from alexnet_core.errors import UnknownRecipe
from alexnet_core.recipes import get_recipe
from api.schemas.base import DESCRIBED, STRICT, Name, Reference
from api.schemas.events import EventRead
from api.schemas.jobs import MAX_METADATA, CheckpointRead, JobRead, MetadataKey, MetadataValue
from trainyard.states import EventType, ShownState

FITTING = "alexnet"  #: as `model`: the recipe that fits the dataset
Auto = Literal["auto"]
Item = TypeVar("Item", bound=BaseModel)

_STATUS = {
    ShownState.QUEUED: "queued",
    ShownState.RUNNING: "running",
    ShownState.PAUSING: "running",
    ShownState.CANCELLING: "running",
    ShownState.PAUSED: "paused",
    ShownState.SUCCEEDED: "succeeded",
    ShownState.FAILED: "failed",
    ShownState.CANCELLED: "cancelled",
}


class HyperparametersGiven(BaseModel):
    """The three options that OpenAI's API has."""

    model_config = STRICT

    n_epochs: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Number of epochs; `auto`: the recipe's."""
    batch_size: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Images in a step; `auto`: the recipe's."""
    learning_rate_multiplier: Auto | Annotated[float, Field(gt=0)] = "auto"
    """Factor on the recipe's learning rate; `auto`: 1."""


class SupervisedGiven(BaseModel):
    """Options of the method."""

    model_config = STRICT

    hyperparameters: HyperparametersGiven = Field(default_factory=HyperparametersGiven)


class MethodGiven(BaseModel):
    """The method: only `supervised` is there."""

    model_config = STRICT

    type: Literal["supervised"]
    supervised: SupervisedGiven = Field(default_factory=SupervisedGiven)


class FineTuningCreate(BaseModel):
    """A training run to queue, in OpenAI's words."""

    model_config = STRICT

    model: Reference
    """Name of a recipe; `alexnet`: the one that fits the dataset."""
    training_file: Reference
    """Id or name of a dataset."""
    hyperparameters: HyperparametersGiven | None = None
    """Epochs, batch size and learning rate."""
    method: MethodGiven | None = None
    """The same, in the newer form."""
    suffix: Name | None = None
    """The job's name."""
    seed: int | None = Field(None, ge=0, le=2**63 - 1)
    """Seed of everything random in the run."""
    metadata: dict[MetadataKey, MetadataValue] | None = Field(None, max_length=MAX_METADATA)
    """Up to 16 pairs of strings."""
    validation_file: None = None
    """Must be null: a dataset has a validation split of its own."""
    integrations: list[Any] | None = Field(None, max_length=0)
    """Must be null or empty: there are none."""

    @property
    def chosen(self) -> HyperparametersGiven:
        """The hyperparameters, in whichever form they were given."""
        if self.method is not None:
            return self.method.supervised.hyperparameters
        return self.hyperparameters or HyperparametersGiven()


class Hyperparameters(BaseModel):
    """The options of a job that OpenAI's API has."""

    model_config = DESCRIBED

    n_epochs: int | Auto
    batch_size: int | Auto
    learning_rate_multiplier: float | Auto


class FineTuningError(BaseModel):
    """Why a job failed."""

    model_config = DESCRIBED

    code: str
    message: str
    param: str | None = None


class FineTuningJobRead(BaseModel):
    """A job, in OpenAI's words."""

    model_config = DESCRIBED

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    status: str
    """`validating_files`, `queued`, `running`, `paused`, `succeeded`, `failed` or `cancelled`."""
    model: str
    """The recipe; `alexnet` until it is known."""
    fine_tuned_model: str | None
    """The best checkpoint of a job that succeeded, for `model` of `POST /predict`."""
    training_file: str
    """Id of the dataset."""
    validation_file: str | None = None
    organization_id: str
    """The owner."""
    result_files: list[str] = Field(default_factory=list)
    """Empty: the series are at `GET /jobs/{job_id}/metrics`."""
    hyperparameters: Hyperparameters
    method: dict[str, Any]
    seed: int
    trained_tokens: int | None = None
    """Null: images have no tokens."""
    error: FineTuningError | None
    integrations: list[Any] = Field(default_factory=list)
    metadata: dict[str, str]
    user_provided_suffix: str | None
    """The job's name."""

    @classmethod
    def of(cls, job: JobRead, now: datetime) -> Self:
        """Build it from a job."""
        chosen, eta_s = _hyperparameters(job), job.progress.eta_s
        is_validating = job.state is ShownState.QUEUED and job.waiting_for == "dataset"
        best = (job.best or {}).get("checkpoint") if job.state is ShownState.SUCCEEDED else None
        error = job.error and FineTuningError(code=job.error["code"], message=job.error["message"])
        return cls(
            id=job.id,
            created_at=int(job.created_at.timestamp()),
            finished_at=None if job.finished_at is None else int(job.finished_at.timestamp()),
            estimated_finish=int(now.timestamp() + eta_s) if eta_s and job.state is ShownState.RUNNING else None,
            status="validating_files" if is_validating else _STATUS[job.state],
            model=job.recipe or FITTING,
            fine_tuned_model=best,
            training_file=job.dataset,
            organization_id=job.owner,
            hyperparameters=chosen,
            method={"type": "supervised", "supervised": {"hyperparameters": chosen.model_dump()}},
            seed=job.seed,
            error=error or None,
            metadata=job.metadata,
            user_provided_suffix=job.name,
        )


def _hyperparameters(job: JobRead) -> Hyperparameters:
    epochs, batch_size, lr = (job.config.get(name) for name in ("epochs", "batch_size", "lr"))
    try:
        usual = get_recipe(job.recipe or "").config.lr
    except UnknownRecipe:
        usual = None
    factor = round(lr / usual, 6) if lr and usual else "auto"
    return Hyperparameters(n_epochs=epochs or "auto", batch_size=batch_size or "auto", learning_rate_multiplier=factor)


class FineTuningEventRead(BaseModel):
    """An event of a job, in OpenAI's words."""

    model_config = DESCRIBED

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message"] = "message"
    data: dict[str, Any]
    """The event as `GET /jobs/{job_id}/events` has it: `type`, `state`, `reason` and its details."""

    @classmethod
    def of(cls, event: EventRead) -> Self:
        """Build it from an event."""
        is_failure = event.type is EventType.STATE and event.state is ShownState.FAILED
        level: Literal["info", "warn", "error"] = (
            "error" if is_failure else "warn" if event.type is EventType.WARNING else "info"
        )
        details = {"type": event.type, "state": event.state, "reason": event.reason} | event.data
        return cls(
            id=f"{event.job}-{event.seq}",
            created_at=int(event.at.timestamp()),
            level=level,
            message=_say(event),
            data=details,
        )


def _say(event: EventRead) -> str:
    reason = f" ({event.reason})" if event.reason else ""
    match event.type:
        case EventType.STATE:
            return f"The job is {event.state}{reason}"
        case EventType.CHECKPOINT:
            return f"Checkpoint {event.data.get('checkpoint') or event.data.get('id')} at step {event.data.get('step')}"
        case EventType.WARNING if event.data.get("message"):
            return f"{event.reason}: {event.data['message']}"
    return f"{event.type}{reason}"


class CheckpointMetrics(BaseModel):
    """The metrics of a checkpoint's epoch; null for one in the middle of an epoch."""

    model_config = DESCRIBED

    step: int
    train_loss: float | None
    valid_loss: float | None
    full_valid_loss: float | None
    valid_mean_token_accuracy: float | None
    """The share of the validation images that were classified rightly."""
    full_valid_mean_token_accuracy: float | None


class FineTuningCheckpointRead(BaseModel):
    """A checkpoint of a job, in OpenAI's words."""

    model_config = DESCRIBED

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuned_model_checkpoint: str
    """The same id, for `model` of `POST /predict`."""
    fine_tuning_job_id: str
    step_number: int
    metrics: CheckpointMetrics

    @classmethod
    def of(cls, checkpoint: CheckpointRead) -> Self:
        """Build it from a checkpoint."""
        known = checkpoint.metrics
        loss, top1 = known.get("val_loss"), known.get("val_top1")
        return cls(
            id=checkpoint.id,
            created_at=int(checkpoint.created_at.timestamp()),
            fine_tuned_model_checkpoint=checkpoint.id,
            fine_tuning_job_id=checkpoint.job,
            step_number=checkpoint.step,
            metrics=CheckpointMetrics(
                step=checkpoint.step,
                train_loss=known.get("train_loss"),
                valid_loss=loss,
                full_valid_loss=loss,
                valid_mean_token_accuracy=top1,
                full_valid_mean_token_accuracy=top1,
            ),
        )


class OpenAIList(BaseModel, Generic[Item]):
    """A page in OpenAI's form; the next one is `?after=` the id of the last entry."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
