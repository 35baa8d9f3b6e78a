"""The training loop, which can be stopped after any step and go on to the same bits.

Nothing random is carried along: the order of the images follows from seed and epoch, an image's augmentation from
seed, epoch and image, dropout from seed and step. The state is weights, optimiser buffers, counts and history.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from alexnet_core.augment import augment, draw_table
from alexnet_core.checkpoint import Checkpoint, SavedCheckpoint, load_checkpoint, save_checkpoint, weights_sha256
from alexnet_core.config import TrainConfig
from alexnet_core.environment import describe_environment, select_precision
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, DiskFull, Diverged
from alexnet_core.evaluate import evaluate
from alexnet_core.model import build_model
from alexnet_core.optimiser import build_optimiser, load_optimiser_tensors, optimiser_tensors, set_learning_rate
from alexnet_core.pack import Pack
from alexnet_core.preprocess import Preprocessing
from alexnet_core.schedule import learning_rate

_PROGRESS_EVERY_S = 0.5
_SAMPLER_STREAM, _DROPOUT_STREAM, _INIT_STREAM = 1, 3, 4


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
    resume_from: Path | None = None
    best_checkpoint: Path | None = None
    failpoints: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RunResult:
    """How a run ended; `test` is None when it was stopped or the dataset has no test split."""

    outcome: str
    step: int
    epoch: int
    weights_sha256: str
    test: dict[str, float] | None
    last_checkpoint: Path | None


@dataclass
class _Counts:
    """The part of the training state that is no tensor."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs done, validation and checkpoint included
    epoch_loss: float = 0.0  # sum over the images of the epoch under way
    epoch_images: int = 0
    epoch_seconds: float = 0.0
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] | None = None


class Run:
    """One training run in this process."""

    def __init__(self, spec: RunSpec, hooks: Hooks, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.spec, self.hooks, self.config, self.pack = spec, hooks, spec.config, spec.pack
        self.device = torch.device(spec.device)
        self.precision = select_precision(self.config, self.device)
        self.environment = describe_environment(self.device, self.precision)
        self.channels = self.config.channels or self.pack.facts.channels
        self.preprocessing = Preprocessing.of(self.config, self.pack)
        split = np.asarray(self.pack.split)
        self.validate_on = (
            self.config.validate_on if np.any(split == 1) or self.config.validate_on == "test" else "test"
        )
        self.train_indices = np.flatnonzero(split != 2 if self.config.validate_on == "test" else split == 0)
        self.steps_per_epoch = _count_steps(self.config, len(self.train_indices))
        self.steps = self.steps_per_epoch * self.config.epochs
        torch.manual_seed(_derive(spec.seed, _INIT_STREAM, 0))
        self.model = build_model(self.config, self.pack.facts.num_classes, self.channels)
        self.model.to(self.device)
        self.optimiser = build_optimiser(self.config, self.model)
        self.counts = _Counts()
        self.bit_exact = True
        self.last_checkpoint: tuple[int, Path] | None = None
        if spec.resume_from is not None:
            self._restore(spec.resume_from)
        self.loss_sum = torch.tensor(self.counts.epoch_loss, dtype=torch.float64, device=self.device)
        self._order_epoch = -1
        self._saved_at = self._resumed_at = self._epoch_began_at = self._clock()
        self._told_at, self._first_step_here = 0.0, self.counts.step

    def train(self) -> RunResult:
        """Train to the end, or until told to stop.

        Raises:
            Diverged: the loss or a weight is not finite.
            DiskFull: an epoch's or the last checkpoint does not fit.
        """
        counts = self.counts
        self.hooks.on_started(self._describe_start())
        self.model.train()
        while counts.epoch < self.config.epochs:
            if counts.step < (counts.epoch + 1) * self.steps_per_epoch:
                self._take_step()
                self._report_step()
                self._save_if_due()
            else:
                self._finish_epoch()
            if self.hooks.should_stop():
                return self._stop()
        test = self._test()
        return self._stop() if test is None and self.hooks.should_stop() else self._result("succeeded", test)

    def _take_step(self) -> None:
        images, labels_B, draws_B5 = self._next_batch()
        lr = learning_rate(self.config, self.counts.step, self.steps_per_epoch)
        set_learning_rate(self.optimiser, lr)
        torch.manual_seed(_derive(self.spec.seed, _DROPOUT_STREAM, self.counts.step))
        x_BCHW = augment(self.preprocessing.to_input(images), draws_B5, self.config)
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits_BK = self.model(x_BCHW)
        loss = F.cross_entropy(logits_BK.float(), labels_B, label_smoothing=self.config.label_smoothing)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        self.loss_sum += loss.detach().double() * len(labels_B)
        self.counts.epoch_images += len(labels_B)
        self.counts.step += 1
        if self.counts.step == self._first_step_here + 1:
            self.hooks.on_first_step()

    def _next_batch(self) -> tuple[Tensor, Tensor, Tensor]:
        epoch, position = divmod(self.counts.step, self.steps_per_epoch)
        if epoch != self._order_epoch:
            generator = np.random.default_rng([self.spec.seed, epoch, _SAMPLER_STREAM])
            self._order = self.train_indices[generator.permutation(len(self.train_indices))]
            self._draws = draw_table(self.spec.seed, epoch, len(self.pack.split))
            self._order_epoch = epoch
        chosen = self._order[position * self.config.batch_size : (position + 1) * self.config.batch_size]
        images = torch.from_numpy(np.ascontiguousarray(self.pack.images[chosen])).to(self.device, non_blocking=True)
        labels_B = torch.from_numpy(np.asarray(self.pack.labels[chosen], dtype=np.int64)).to(self.device)
        return images, labels_B, torch.from_numpy(self._draws[chosen]).to(self.device)

    def _report_step(self) -> None:
        counts, now = self.counts, self._clock()
        interval = self.config.interval_steps or max(1, self.steps_per_epoch // 20)
        at_interval = counts.step % interval == 0
        if not at_interval and now - self._told_at < _PROGRESS_EVERY_S:
            return
        speed = (counts.step - self._first_step_here) / max(1e-9, now - self._resumed_at)  # steps a second
        point = {
            "epoch": counts.epoch,
            "step": counts.step,
            "train_loss": self._mean_loss(),
            "lr": learning_rate(self.config, counts.step - 1, self.steps_per_epoch),
            "images_per_s": speed * self.config.batch_size,
        }
        if at_interval:
            self.hooks.on_interval(point)
        if now - self._told_at >= _PROGRESS_EVERY_S:
            self._told_at = now
            ends = {"epochs": self.config.epochs, "steps": self.steps, "fraction": counts.step / self.steps}
            self.hooks.on_progress(point | ends | {"eta_s": (self.steps - counts.step) / speed if speed else None})

    def _save_if_due(self) -> None:
        at_end = self.counts.step == (self.counts.epoch + 1) * self.steps_per_epoch
        if at_end or self._clock() - self._saved_at < self.spec.recovery_every_s:
            return
        try:
            self._save("recovery", None, is_best=False)
        except DiskFull as exc:
            self.hooks.on_warning(exc.code, str(exc))
            self._saved_at = self._clock()

    def _finish_epoch(self) -> None:
        counts = self.counts
        train_loss = self._mean_loss()
        validation = evaluate(
            self.model, self.pack, self.validate_on, self.preprocessing,
            device=self.device, precision=self.precision, should_stop=self.hooks.should_stop,
        )  # fmt: skip
        if validation is None:
            return
        seconds = counts.epoch_seconds + self._clock() - self._epoch_began_at
        metrics = {"train_loss": train_loss} | {f"val_{key}": validation[key] for key in ("loss", "top1", "top5")}
        metrics["seconds"] = round(seconds, 3)
        counts.epoch += 1
        counts.history.append(metrics)
        rank = (metrics["val_top1"], -metrics["val_loss"])
        is_best = counts.best is None or rank > (counts.best["val_top1"], -counts.best["val_loss"])
        if is_best:
            counts.best = {"epoch": counts.epoch, "name": self._name("epoch")} | metrics
        self.hooks.on_epoch(counts.epoch, counts.step, metrics)
        self._warn_if_not_learning(metrics)
        self._start_epoch()
        self._save("epoch", metrics, is_best=is_best)

    def _start_epoch(self) -> None:
        self.counts.epoch_images, self.counts.epoch_seconds = 0, 0.0
        self.loss_sum.zero_()
        self._epoch_began_at = self._clock()

    def _warn_if_not_learning(self, metrics: dict[str, float]) -> None:
        num_classes = self.pack.facts.num_classes
        if len(self.counts.history) == 1 and metrics["train_loss"] > 0.98 * math.log(num_classes):
            self.hooks.on_warning(
                "not_learning",
                f"after epoch {self.counts.epoch} the loss is {metrics['train_loss']:.3f}, that of guessing among "
                f"{num_classes} classes: try another lr (it is {self.config.lr}) or norm='batch'",
            )

    def _stop(self) -> RunResult:
        if self.last_checkpoint is None or self.last_checkpoint[0] != self.counts.step:
            self._save("recovery", None, is_best=False)
        return self._result("stopped", None)

    def _result(self, outcome: str, test: dict[str, float] | None) -> RunResult:
        path = self.last_checkpoint[1] if self.last_checkpoint else None
        digest = weights_sha256(self.model.state_dict())
        return RunResult(outcome, self.counts.step, self.counts.epoch, digest, test, path)

    def _test(self) -> dict[str, float] | None:
        """Accuracy of the best checkpoint, as it is on disk, on the test split, in fp32."""
        best = self.counts.best
        path = self.spec.best_checkpoint
        if best is not None and (self.spec.checkpoint_root / best["name"]).is_dir():
            path = self.spec.checkpoint_root / best["name"]
        if not np.any(np.asarray(self.pack.split) == 2):
            return None
        model = build_model(self.config, self.pack.facts.num_classes, self.channels).to(self.device)
        try:
            if path is None:
                raise CheckpointCorrupt("the best epoch's checkpoint is gone")
            model.load_state_dict(load_checkpoint(path).weights)
        except (CheckpointCorrupt, CheckpointIncompatible) as exc:
            self.hooks.on_warning(exc.code, f"{exc}; the last weights are tested in its place")
            model = self.model
        return evaluate(
            model, self.pack, "test", self.preprocessing, device=self.device, should_stop=self.hooks.should_stop
        )

    def _mean_loss(self) -> float:
        mean = float(self.loss_sum) / max(1, self.counts.epoch_images)
        if not math.isfinite(mean):
            raise Diverged(
                f"the loss became {mean} by step {self.counts.step}: lower lr (it is {self.config.lr}) and try again"
            )
        return mean

    def _save(self, kind: str, metrics: dict[str, float] | None, *, is_best: bool) -> None:
        counts = self.counts
        self._mean_loss()
        counts.epoch_loss = float(self.loss_sum)
        seconds = counts.epoch_seconds + self._clock() - self._epoch_began_at
        weights = {name: value.detach().cpu() for name, value in self.model.state_dict().items()}
        if not all(bool(torch.isfinite(value).all()) for value in weights.values()):
            raise Diverged(f"a weight is no number at step {counts.step}: lower lr (it is {self.config.lr})")
        metadata = {
            "format_version": 1, "kind": kind, "job_id": self.spec.job_id, "lease_epoch": self.spec.lease_epoch,
            "epoch": counts.epoch, "step": counts.step, "metrics": metrics, "dataset": self.pack.facts.name,
            "dataset_digest": self.pack.digest, "weights_sha256": weights_sha256(weights), "seed": self.spec.seed,
            "environment": self.environment, "validate_on": self.validate_on,
        }  # fmt: skip
        checkpoint = Checkpoint(
            self.spec.checkpoint_root / self._name(kind), self.config, tuple(self.pack.facts.class_names),
            self.preprocessing, metadata, weights,
            asdict(counts) | {"epoch_seconds": seconds}, optimiser_tensors(self.optimiser, self.model),
        )  # fmt: skip
        fail_after = self.spec.failpoints.get("checkpoint_bytes")
        saved = save_checkpoint(checkpoint, fail_after_bytes=int(fail_after) if fail_after else None)
        self._saved_at, self.last_checkpoint = self._clock(), (counts.step, saved.path)
        self.hooks.on_checkpoint(kind, saved, metadata, is_best)

    def _restore(self, path: Path) -> None:
        checkpoint = load_checkpoint(path, state=True)
        metadata, state = checkpoint.metadata, checkpoint.state or {}
        if metadata["dataset_digest"] != self.pack.digest or metadata["seed"] != self.spec.seed:
            raise CheckpointIncompatible(f"checkpoint {path} belongs to another dataset or seed: start anew from it")
        try:
            self.model.load_state_dict(checkpoint.weights)
        except RuntimeError as exc:
            raise CheckpointIncompatible(f"the weights of {path} don't fit this network: {exc}") from exc
        load_optimiser_tensors(self.optimiser, self.model, checkpoint.state_tensors or {})
        self.counts = _Counts(**state)
        self.bit_exact = metadata["environment"] == self.environment
        self.last_checkpoint = (self.counts.step, path)

    def _describe_start(self) -> dict[str, Any]:
        return {
            "epoch": self.counts.epoch, "step": self.counts.step, "steps": self.steps,
            "steps_per_epoch": self.steps_per_epoch, "epochs": self.config.epochs, "device": self.spec.device,
            "environment": self.environment, "bit_exact": self.bit_exact,
            "resumed_from": str(self.spec.resume_from) if self.spec.resume_from else None,
        }  # fmt: skip

    def _name(self, kind: str) -> str:
        return f"{kind}-{self.counts.step:08d}-e{self.spec.lease_epoch}"


def _count_steps(config: TrainConfig, num_images: int) -> int:
    """Steps of an epoch; a last batch of one image is left out where a batch norm could not use it."""
    full, rest = divmod(num_images, config.batch_size)
    return full + (1 if rest > (1 if config.norm == "batch" and full else 0) else 0)


def _derive(seed: int, stream: int, index: int) -> int:
    """A seed of its own for everything that is drawn."""
    return int(np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)[0]) >> 1
