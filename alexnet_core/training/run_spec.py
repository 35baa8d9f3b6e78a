"""What a training run is given, what it tells, and the part of its state that is no tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntFlag
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from alexnet_core.errors import ConfigError
from alexnet_core.training.diagnosis import Trouble

if TYPE_CHECKING:
    from alexnet_core.config import DatasetFacts, TrainConfig
    from alexnet_core.data.pack import Pack
    from alexnet_core.network.checkpoint import SavedCheckpoint


class Due(IntFlag):
    """What is to be done after a step; several processes agree on it."""

    NOTHING = 0
    TELL = 1  #: report progress
    SAVE = 2  #: write a recovery checkpoint
    END = 4  #: the run has had its time
    STOP = 8  #: it was told to stop


class Hooks(Protocol):
    """What a run tells and asks; every method is called from the training thread."""

    def on_started(self, report: dict[str, Any]) -> None:
        """Just before the first step."""

    def on_first_step(self) -> None:
        """After the first step of this process."""

    def on_progress(self, report: dict[str, Any]) -> None:
        """After a step, at most every half second."""

    def on_interval(self, report: dict[str, Any]) -> None:
        """Every `interval_steps` steps: a point of the series."""

    def on_epoch(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """After an epoch's validation, before its checkpoint."""

    def on_checkpoint(self, kind: str, saved: SavedCheckpoint, metadata: dict[str, Any], is_best: bool) -> None:
        """After a checkpoint is in place."""

    def on_warning(self, code: str, message: str) -> None:
        """When something is wrong that does not end the run."""

    def should_stop(self) -> bool:
        """Asked after every step and batch of validation: whether to write a recovery checkpoint and return."""
        ...


@dataclass(frozen=True)
class RunSpec:
    """What to train, on what, and where to keep it."""

    config: TrainConfig
    pack: Pack
    seed: int
    checkpoint_root: Path
    job_id: str = "local"
    lease_epoch: int = 0
    device: str = "cpu"
    recovery_every_s: float = 60.0
    resume_from: Path | None = None  #: a checkpoint of this very run
    best_checkpoint: Path | None = None
    init_from: Path | None = None  #: a checkpoint whose weights a new run starts with
    max_runtime_s: float | None = None  #: of training, over all attempts
    failpoints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """How a run ended; `test` is None when it was stopped or the dataset has no test split."""

    outcome: str  #: `succeeded`, `stopped` (it was told to) or `max_runtime`
    step: int
    epoch: int
    weights_sha256: str
    test: dict[str, Any] | None  #: with `chosen_on`: the split that chose the epoch, or `none`
    last_checkpoint: Path | None


@dataclass
class Counts:
    """The part of the training state that is no tensor."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs done, validation and checkpoint included
    epoch_loss: float = 0.0  # sum over the images of the epoch under way
    epoch_images: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0  # of training, over all attempts
    warned: list[str] = field(default_factory=list)  # codes of warnings that come once
    loss_scale: dict[str, Any] = field(default_factory=dict)  # of fp16
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] | None = None


def choose_split(config: TrainConfig, facts: DatasetFacts) -> tuple[str, Trouble | None]:
    """The split that chooses the best epoch (`validation`, `test` or `none`), and what whoever reads the results must
    know of it.

    Raises:
        ConfigError: no split is left, and the config needs one.
    """
    has = {"validation": facts.num_val, "test": facts.num_test, "none": True}
    wanted = config.validate_on
    split = wanted if has[wanted] else "test" if wanted == "validation" and facts.num_test else "none"
    if split == "none" and (config.schedule == "plateau" or config.early_stop_patience is not None):
        raise ConfigError(
            f"{facts.name} has no images to validate on, and schedule plateau and early_stop_patience go by them: "
            "use another schedule, or leave early_stop_patience out",
            param="overrides.validate_on",
        )
    reason = "" if split == wanted else f"{facts.name} has no {wanted} images to choose the best epoch by; "
    if split == "test":
        text = "the test images choose the best epoch, so that other images will do worse than the accuracy on them"
        return split, Trouble("chosen_on_test", f"{reason}{text}")
    return split, Trouble("nothing_to_validate_on", f"{reason}the last epoch counts") if reason else None


def is_better(metrics: Mapping[str, float], best: Mapping[str, Any] | None) -> bool:
    """Whether an epoch replaces the best one so far: by a higher `val_top1`; where that is the same, by a lower
    `val_loss`, and one that is no number is the highest. Where both are the same the earlier one stays. Without
    validation every epoch replaces the one before.
    """
    return best is None or "val_top1" not in metrics or _rank(metrics) > _rank(best)


def _rank(metrics: Mapping[str, Any]) -> tuple[float, float]:
    loss = metrics["val_loss"]
    return metrics["val_top1"], -loss if math.isfinite(loss) else -math.inf
