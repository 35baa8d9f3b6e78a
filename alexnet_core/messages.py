"""The messages between a worker and its trainer: one JSON object in a line, with its kind in `type`. Torch-free.

Commands go to the trainer, reports come from it. NaN and the infinities are sent as they are, and become null where
they are stored.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from alexnet_core.config import TrainConfig
from alexnet_core.layout import CheckpointKind
from alexnet_core.reliability import Calibration

#: Exit statuses of a trainer that has sent no last report.
PARENT_IS_GONE, WORKER_WAS_SILENT = 3, 4
#: The code of a failure whose cause is that the two programs do not understand each other.
PROTOCOL_ERROR = "protocol_error"

Metrics = dict[str, int | float]
TestScores = dict[str, int | float | str]
T = TypeVar("T")


class MalformedMessage(ValueError):
    """A line is not a message that this version knows."""


class StopReason(StrEnum):
    """Why a trainer is told to stop."""

    PAUSE = "pause"  #: the owner wants the job to wait
    CANCEL = "cancel"  #: the owner wants the job to end
    DRAIN = "drain"  #: the worker ends


class StopRequested(Exception):
    """The attempt must stop before its first step."""

    def __init__(self, reason: StopReason) -> None:
        self.reason = reason
        super().__init__(reason)


class Outcome(StrEnum):
    """How a run ended."""

    SUCCEEDED = "succeeded"  #: every epoch is done
    STOPPED = "stopped"  #: it was told to stop
    MAX_RUNTIME = "max_runtime"  #: it has had its time


class Message(BaseModel):
    """A line in either direction."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants", use_attribute_docstrings=True)

    type: str
    """Tells which message it is."""

    def to_line(self) -> bytes:
        """Return the message as it is sent."""
        return self.model_dump_json().encode() + b"\n"


# --- to the trainer ---


class Spec(Message):
    """Train this attempt."""

    type: Literal["spec"] = "spec"
    job_id: str
    lease_epoch: int
    seed: int
    config: TrainConfig
    pack_dir: Path
    pack_digest: str | None = None
    """The content that the job expects; None: any."""
    checkpoint_root: Path
    resume_from: Path | None = None
    """A checkpoint of this job, or of the one that it continues, to go on from."""
    best_checkpoint: Path | None = None
    """The best epoch's checkpoint so far."""
    init_from: Path | None = None
    """A checkpoint whose weights to begin with."""
    max_runtime_s: float | None = None
    """Seconds of training, over all attempts."""
    max_silence_s: float | None = None
    """The trainer ends when its worker says nothing for longer."""
    device: str = "cpu"
    num_threads: int = 1
    recovery_every_s: float = 60.0
    log_path: Path | None = None
    lock_path: Path | None = None
    """The lock of the slot, which the trainer holds while it computes."""
    tensorboard_dir: Path | None = None
    evaluation_path: Path | None = None
    """The file that the evaluation of the best checkpoint is appended to; None: it is not evaluated in detail."""
    evaluation_was_cut_off: bool = False
    """An earlier attempt was lost in the middle of that: leave it out."""
    failpoints: dict[str, str] = {}
    """For tests: what is to fail where."""


class Stop(Message):
    """Write a checkpoint after the current step, and stop."""

    type: Literal["stop"] = "stop"
    reason: StopReason


class Heartbeat(Message):
    """The worker is alive. A trainer that gets none for a long time assumes that the worker is frozen."""

    type: Literal["heartbeat"] = "heartbeat"


# --- from the trainer ---


class Report(Message):
    """A message from a trainer, with the attempt that it is about. None: the trainer serves none."""

    job_id: str | None = None
    lease_epoch: int | None = None


class Place(BaseModel):
    """How far a run is."""

    epoch: int
    epochs: int
    step: int
    steps: int
    fraction: float
    images_per_s: float | None = None
    eta_s: float | None = None


class Ready(Report):
    """The trainer has loaded torch: a spec can be sent."""

    type: Literal["ready"] = "ready"


class Alive(Report):
    """The trainer is busy with something that has nothing else to report for a while."""

    type: Literal["alive"] = "alive"


class Phase(Report):
    """The trainer does something other than training for a while."""

    type: Literal["phase"] = "phase"
    reason: Literal["waiting_for_device", "evaluating"]


class Started(Place, Report):
    """The first step is about to begin."""

    type: Literal["started"] = "started"
    steps_per_epoch: int
    device: str
    environment: dict[str, Any]
    """What the bits depend on besides config, data and seed: `environment.describe_environment`."""
    precision_reason: str
    """Why in that precision, as `1.9 times as fast as fp32 on this CPU`."""
    bit_exact: bool
    """Whether a resumed run has the bits of one that was never stopped."""
    started_anew: list[str]
    """Layers that did not fit the checkpoint to begin with."""
    resumed_from: str | None = None


class FirstStep(Report):
    """The first step of this attempt is done."""

    type: Literal["first_step"] = "first_step"


class Progress(Place, Report):
    """Sent after a step, at most every half second."""

    type: Literal["progress"] = "progress"


class Interval(Report):
    """A point of the curves by step."""

    type: Literal["interval"] = "interval"
    epoch: int
    step: int
    train_loss: float
    lr: float
    images_per_s: float
    seconds: float
    """Of training so far, over all attempts."""
    gradient_norm: float
    dead_relu: float
    """Share of the units of the worst layer that were 0 for every image of the batch."""


class EpochEnd(Report):
    """An epoch has been validated."""

    type: Literal["epoch"] = "epoch"
    epoch: int
    step: int
    metrics: Metrics


class StoredFile(BaseModel):
    """A file of a checkpoint, as its manifest lists it."""

    sha256: str
    size: int


class CheckpointSaved(Report):
    """A checkpoint is complete and in its place."""

    type: Literal["checkpoint"] = "checkpoint"
    kind: CheckpointKind
    path: Path
    epoch: int
    step: int
    metrics: Metrics | None = None
    """Those of the epoch that has just ended; None: in mid-epoch."""
    files: dict[str, StoredFile]
    size_bytes: int
    weights_sha256: str
    manifest_sha256: str
    is_best: bool


class Calibrated(Report):
    """The best epoch's probabilities were compared with how often they are right."""

    type: Literal["calibrated"] = "calibrated"
    weights_sha256: str
    """Of the weights that are meant."""
    calibration: Calibration


class Warned(Report):
    """Something is wrong that does not end the run."""

    type: Literal["warning"] = "warning"
    code: str
    message: str


class Finished(Report):
    """The last report of an attempt that ended normally."""

    type: Literal["finished"] = "finished"
    outcome: Outcome
    reason: StopReason | None = None
    """Why it was told to stop; None: it was not."""
    step: int | None = None
    """Steps done; None: it was stopped before it began."""
    epoch: int | None = None
    weights_sha256: str | None = None
    test: TestScores | None = None
    """Of the test split, with `chosen_on`; None: there is none, or it was not reached."""
    stays: bool = False
    """The trainer is as if it had served no attempt, and waits for another."""

    @model_validator(mode="after")
    def _check_that_it_is_complete(self) -> Self:
        if self.outcome is not Outcome.STOPPED and None in (self.step, self.epoch, self.weights_sha256):
            raise ValueError(f"{self.outcome} comes with step, epoch and weights_sha256")
        return self


class Failed(Report):
    """The last report of an attempt that failed."""

    type: Literal["failed"] = "failed"
    code: str
    message: str


Command = Spec | Stop | Heartbeat
AnyReport = (
    Ready | Alive | Phase | Started | FirstStep | Progress | Interval | EpochEnd | CheckpointSaved | Calibrated
    | Warned | Finished | Failed
)  # fmt: skip
_COMMANDS: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="type")])
_REPORTS: TypeAdapter[AnyReport] = TypeAdapter(Annotated[AnyReport, Field(discriminator="type")])


def parse_command(line: bytes) -> Command:
    """Parse a line to a trainer.

    Raises:
        MalformedMessage: it is no command.
    """
    return parse_line(_COMMANDS, line)


def parse_report(line: bytes) -> AnyReport:
    """Parse a line from a trainer.

    Raises:
        MalformedMessage: it is no report.
    """
    return parse_line(_REPORTS, line)


def parse_line(kinds: TypeAdapter[T], line: bytes) -> T:
    """Parse a line as a message of some kinds.

    Raises:
        MalformedMessage: it is none of them.
    """
    try:
        return kinds.validate_json(line)
    except ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise MalformedMessage(f"{place}: {first['msg']}" if place else first["msg"]) from exc
