"""The state of a run: everything that a step changes. It is saved and restored so that no bit differs.

Weights, the optimiser's buffers, fp16's loss scale and `Counts` are saved. Everything else follows from the spec: the
learning rate from the step and the history, random numbers from the seed (`streams`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from alexnet_core.environment import explain_difference
from alexnet_core.errors import CheckpointIncompatible, Diverged
from alexnet_core.failpoints import Failpoints
from alexnet_core.layout import CheckpointKind, CheckpointName
from alexnet_core.network.checkpoint import (
    Checkpoint,
    SavedCheckpoint,
    load_checkpoint,
    save_checkpoint,
    weights_sha256,
)
from alexnet_core.network.model import build_model, copy_weights
from alexnet_core.training.optimiser import build_optimiser, load_optimiser_tensors, optimiser_tensors
from alexnet_core.training.run_spec import RunSpec, Setting
from alexnet_core.training.streams import Stream, seed_torch
from alexnet_core.training.world import World

Metrics = dict[str, float]


@dataclass
class Counts:
    """The part of the training state that is not tensors, as it is stored in a checkpoint."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs done, validation and checkpoint included
    epoch_loss: float = 0.0  # sum over the images of the epoch under way
    epoch_images: int = 0
    epoch_seconds: float = 0.0
    seconds: float = 0.0  # of training, over all attempts
    warned: list[str] = field(default_factory=list)  # codes of warnings that come once
    loss_scale: dict[str, Any] = field(default_factory=dict)  # of fp16
    history: list[Metrics] = field(default_factory=list)
    best: dict[str, Any] | None = None


class RunState:
    """The state that a run is in.

    Args:
        spec: says where it begins: from initial weights, from another run's, or where a checkpoint of its own left off.
        setting: of the spec.
        world: the processes of the run.
        clock: seconds.
    """

    def __init__(self, spec: RunSpec, setting: Setting, world: World, clock: Callable[[], float]) -> None:
        self._spec, self._setting, self._world, self._clock = spec, setting, world, clock
        torch.manual_seed(seed_torch(spec.seed, Stream.FIRST_WEIGHTS))
        self.model = build_model(spec.config, spec.pack.facts.num_classes, setting.channels)
        self.model.to(setting.device)
        self.started_anew: list[str] = []  #: layers that did not fit the weights to begin with
        if spec.init_from is not None and spec.resume_from is None:
            self.started_anew = copy_weights(self.model, load_checkpoint(spec.init_from).weights)
        side = spec.config.image_px
        self.placed = world.place(self.model, torch.zeros(1, setting.channels, side, side, device=setting.device))
        self.optimiser = build_optimiser(spec.config, self.placed.trained, keep_copies=world.shares == 1)
        self.scaler = torch.amp.GradScaler(setting.device.type, enabled=setting.precision == "fp16")
        self.counts = Counts()
        self.difference: str | None = None  #: why it may end in other bits than a run that was never stopped
        self.last_checkpoint: tuple[int, Path] | None = None  #: after which step, and where
        if spec.resume_from is not None:
            self._restore(spec.resume_from)
        self.loss_sum = torch.tensor(self.counts.epoch_loss, dtype=torch.float64, device=setting.device)
        self._began_at = self._epoch_began_at = clock()

    @property
    def seconds(self) -> float:
        """The seconds of training so far, over all attempts."""
        return self.counts.seconds + self._clock() - self._began_at

    @property
    def epoch_seconds(self) -> float:
        """The seconds of training in the current epoch."""
        return self.counts.epoch_seconds + self._clock() - self._epoch_began_at

    def mean_loss(self) -> float:
        """The mean training loss of the current epoch so far.

        Raises:
            Diverged: it is not finite.
        """
        mean = float(self.loss_sum) / max(1, self.counts.epoch_images)
        if not math.isfinite(mean):
            raise Diverged(
                f"the loss became {mean} by step {self.counts.step}: lower {self._describe_rate()} and try again"
            )
        return mean

    def add_step(self, loss_sum: Tensor, num_images: int) -> None:
        """Count a step that the optimiser has made."""
        self.loss_sum += loss_sum
        self.counts.epoch_images += num_images
        self.counts.step += 1

    def end_epoch(self, metrics: Metrics) -> bool:
        """Count an epoch that has been validated.

        Returns:
            Whether it is the best so far.
        """
        counts = self.counts
        counts.epoch += 1
        counts.history.append(metrics)
        if is_best := is_better(metrics, counts.best):
            counts.best = {"epoch": counts.epoch, "name": self._name(CheckpointKind.EPOCH)} | metrics
        return is_best

    def start_epoch(self) -> None:
        """Reset the counts for the next epoch."""
        self.counts.epoch_images, self.counts.epoch_seconds = 0, 0.0
        self.loss_sum.zero_()
        self._epoch_began_at = self._clock()

    def gather(self) -> None:
        """Bring the weights into `model`, if the weights that are trained are elsewhere."""
        if self.placed.trained is not self.model:
            self.model.load_state_dict(self._collect_weights())

    def hash_weights(self) -> str:
        """Return the sha256 of the weights, wherever they are."""
        return weights_sha256(self._collect_weights())

    def find_best(self) -> Path | None:
        """Return the best epoch's checkpoint, of this run or of the one that it continues."""
        best = self.counts.best
        own = None if best is None else Path(self._spec.checkpoint_root, best["name"])
        return own if own is not None and own.is_dir() else self._spec.best_checkpoint

    def save(
        self, kind: CheckpointKind, metrics: Metrics | None, failpoints: Failpoints
    ) -> tuple[SavedCheckpoint, dict[str, Any]]:
        """Write a checkpoint.

        Returns:
            What was written, and its metadata.

        Raises:
            Diverged: the loss or a weight is not finite: nothing is written.
            DiskFull: there is no room.
        """
        counts = self.counts
        self.mean_loss()
        counts.epoch_loss, counts.loss_scale = float(self.loss_sum), self.scaler.state_dict()
        in_time = {"epoch_seconds": self.epoch_seconds, "seconds": self.seconds}
        weights = {name: value.detach().cpu() for name, value in self._collect_weights().items()}
        if not all(_is_finite(value) for value in weights.values()):
            raise Diverged(f"a weight is not a number at step {counts.step}: lower {self._describe_rate()}")
        spec, setting = self._spec, self._setting
        metadata = {
            "format_version": 1, "kind": kind.value, "job_id": spec.job_id, "lease_epoch": spec.lease_epoch,
            "epoch": counts.epoch, "step": counts.step, "metrics": metrics, "dataset": spec.pack.facts.name,
            "dataset_digest": spec.pack.digest, "weights_sha256": weights_sha256(weights), "seed": spec.seed,
            "environment": setting.environment, "validate_on": setting.validate_on,
        }  # fmt: skip
        checkpoint = Checkpoint(
            spec.checkpoint_root / self._name(kind), spec.config, tuple(spec.pack.facts.class_names),
            setting.preprocessing, metadata, weights, asdict(counts) | in_time,
            self.placed.collect(optimiser_tensors(self.optimiser, self.placed.trained)),
        )  # fmt: skip
        saved = self._world.first(lambda: save_checkpoint(checkpoint, failpoints=failpoints))
        self.last_checkpoint = (counts.step, saved.path)
        return saved, metadata

    def _restore(self, path: Path) -> None:
        checkpoint = load_checkpoint(path, state=True)
        metadata, state = checkpoint.metadata, checkpoint.state or {}
        if metadata["dataset_digest"] != self._spec.pack.digest or metadata["seed"] != self._spec.seed:
            raise CheckpointIncompatible(
                f"checkpoint {path} belongs to another dataset or seed: start a new run from its weights"
            )
        try:
            self.placed.trained.load_state_dict(self.placed.pick(checkpoint.weights))
        except RuntimeError as exc:
            raise CheckpointIncompatible(f"the weights of {path} don't fit this network: {exc}") from exc
        buffers = self.placed.pick(checkpoint.state_tensors or {})
        load_optimiser_tensors(self.optimiser, self.placed.trained, buffers)
        self.counts = Counts(**state)
        if self.find_best() is None:  # its checkpoint is gone: the best one is one of those that come
            self.counts.best = None
        self.scaler.load_state_dict(self.counts.loss_scale)
        self.difference = explain_difference(metadata["environment"], self._setting.environment)
        self.last_checkpoint = (self.counts.step, path)

    def _collect_weights(self) -> dict[str, Tensor]:
        return self.placed.collect(self.placed.trained.state_dict())

    def _describe_rate(self) -> str:
        return self._setting.describe_rate(self.counts.step)

    def _name(self, kind: CheckpointKind) -> str:
        return str(CheckpointName(kind, self.counts.step, self._spec.lease_epoch))


def is_better(metrics: Mapping[str, float], best: Mapping[str, Any] | None) -> bool:
    """Whether an epoch replaces the best one so far.

    A higher `val_top1` is better. If it is equal, a lower `val_loss` is better, where one that is not a number counts
    as the highest. If both are equal the earlier epoch stays. Without validation every epoch replaces the one before.
    """
    return best is None or "val_top1" not in metrics or _rank(metrics) > _rank(best)


def _rank(metrics: Mapping[str, Any]) -> tuple[float, float]:
    loss = metrics["val_loss"]
    return metrics["val_top1"], -loss if math.isfinite(loss) else -math.inf


def _is_finite(value: Tensor) -> bool:
    """Whether all values of a tensor are finite, found without a mask of its size."""
    return not value.numel() or all(math.isfinite(end) for end in torch.aminmax(value))
