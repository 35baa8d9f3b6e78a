"""The training loop, which can be stopped after any step and go on to the same bits.

Nothing random is carried along: the order of the images follows from seed and epoch, an image's augmentation from
seed, epoch and image, dropout from seed and step. The state is weights, optimiser buffers, counts and history.

B batch, C channels, H height, W width, D draws
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from alexnet_core.environment import describe_environment, explain_difference
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, DiskFull, Diverged
from alexnet_core.evaluation.evaluate import evaluate
from alexnet_core.failpoints import STEP, Failpoints
from alexnet_core.layout import CheckpointName
from alexnet_core.network.checkpoint import Checkpoint, load_checkpoint, read_metadata, save_checkpoint, weights_sha256
from alexnet_core.network.model import build_model, copy_weights
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.precision import Precision, autocast, choose_precision
from alexnet_core.training.augment import Augmentation
from alexnet_core.training.batches import Batches
from alexnet_core.training.diagnosis import Examination, Trouble, can_judge, examining, find_trouble
from alexnet_core.training.fan_out import Muted
from alexnet_core.training.optimiser import (
    build_optimiser,
    load_optimiser_tensors,
    optimiser_tensors,
    set_learning_rate,
)
from alexnet_core.training.run_spec import Counts, Due, Hooks, RunResult, RunSpec, choose_split, is_better
from alexnet_core.training.schedule import conv1_learning_rate, describe_rate, learning_rate, reason_to_end
from alexnet_core.training.world import World

_PROGRESS_EVERY_S = 0.5
_DROPOUT_STREAM, _INIT_STREAM = 3, 4  # tell what is drawn from the same seed apart


class Run:
    """One training run in this process, or this process's part of one.

    Args:
        spec: what to train; the same in every process, and its files are in everyone's reach.
        hooks: of the first process; the others' are only asked whether to stop.
        clock: seconds.
        world: the processes of the run; None: this one, on the spec's device.
    """

    def __init__(
        self, spec: RunSpec, hooks: Hooks, *, clock: Callable[[], float] = time.monotonic, world: World | None = None
    ) -> None:
        self._clock = clock
        self.world = world or World(spec.device)
        self.hooks = hooks if self.world.is_first else Muted(hooks)
        self.spec, self.config, self.pack = spec, spec.config, spec.pack
        self.world.check(self.config)
        self.failpoints = Failpoints(spec.failpoints)
        self.device = torch.device(self.world.device)
        chosen = self.world.first(self._choose_precision)
        self.precision, self.precision_reason = chosen.name, chosen.reason
        self.environment = describe_environment(self.device, self.precision) | self.world.describe()
        self.channels = self.config.channels or self.pack.facts.channels
        self.preprocessing = Preprocessing.of(self.config, self.pack)
        self.augmentation = Augmentation(self.config, self.preprocessing, self.pack)
        self.validate_on, self.trouble_of_split = choose_split(self.config, self.pack.facts)
        self.batches = Batches(self.config, self.pack, spec.seed, self.world)
        self.steps_per_epoch = self.batches.steps_per_epoch
        self.steps = self.steps_per_epoch * self.config.epochs
        torch.manual_seed(_derive(spec.seed, _INIT_STREAM, 0))
        self.model = build_model(self.config, self.pack.facts.num_classes, self.channels)
        self.model.to(self.device)
        self.started_anew: list[str] = []
        if spec.init_from is not None and spec.resume_from is None:
            self.started_anew = copy_weights(self.model, load_checkpoint(spec.init_from).weights)
        side = self.config.image_px
        self.placed = self.world.place(self.model, torch.zeros(1, self.channels, side, side, device=self.device))
        self.optimiser = build_optimiser(self.config, self.placed.trained, keep_copies=self.world.shares == 1)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.counts = Counts()
        self.difference: str | None = None  # why it may end in other bits than a run that stayed
        self.last_checkpoint: tuple[int, Path] | None = None
        self.examination: Examination | None = None
        if spec.resume_from is not None:
            self._restore(spec.resume_from)
        self.loss_sum = torch.tensor(self.counts.epoch_loss, dtype=torch.float64, device=self.device)
        self._saved_at = self._resumed_at = self._epoch_began_at = self._clock()
        self._told_at, self._first_step_here, self._images_here = 0.0, self.counts.step, 0

    def train(self) -> RunResult:
        """Train to the end, or until told to stop.

        Raises:
            Diverged: the loss or a weight is not finite.
            DiskFull: an epoch's or the last checkpoint does not fit.
        """
        counts = self.counts
        self.hooks.on_started(self._describe_start())
        if self.difference is not None:
            self.hooks.on_warning("resume_not_bit_exact", self.difference)
        if self.trouble_of_split is not None:
            self._warn_once(self.trouble_of_split)
        self._set_modes()
        while self._is_unfinished():
            if counts.step < (counts.epoch + 1) * self.steps_per_epoch:
                self._take_step()
                due = self._agree()
                self._report_step(due)
                self._save_if_due(due)
            else:
                self._finish_epoch()
                due = self._agree()
            if Due.STOP in due:
                return self._stop("stopped")
            if Due.END in due and self._is_unfinished():
                return self._stop("max_runtime")
        self._gather()
        test = self.world.first(self._test)
        return self._stop("stopped") if test is None and Due.STOP in self._agree() else self._result("succeeded", test)

    @property
    def bit_exact(self) -> bool:
        """Whether it ends in the bits of a run that stayed where it began."""
        return self.difference is None

    def _choose_precision(self) -> Precision:
        path = self.spec.resume_from
        before = (path and read_metadata(path)["environment"]) or {}
        return choose_precision(self.config.precision, self.device, begun_in=before.get("precision"))

    def _is_unfinished(self) -> bool:
        return self.counts.epoch < self.config.epochs and reason_to_end(self.config, self.counts.history) is None

    def _set_modes(self) -> None:
        """Every layer trains; the batch norm of a frozen convolution keeps its statistics."""
        self.placed.network.train()
        frozen = {layer.replace("conv", "norm") for layer, factor in self.config.layer_lr_factors if factor == 0}
        for path, module in self.placed.trained.named_modules():
            if path.rpartition(".")[2] in frozen:
                module.eval()

    def _gather(self) -> None:
        """Have `model` hold the weights where others are trained in its place."""
        if self.placed.trained is not self.model:
            self.model.load_state_dict(self.placed.collect(self.placed.trained.state_dict()))

    def _agree(self) -> Due:
        """What is due after this step: by the first process's clock, and to stop if anyone asks for it."""
        due = Due.STOP if self.hooks.should_stop() else Due.NOTHING
        if self.world.is_first:
            now = self._clock()
            due |= Due.TELL * (now - self._told_at >= _PROGRESS_EVERY_S)
            due |= Due.SAVE * (now - self._saved_at >= self.spec.recovery_every_s)
            due |= Due.END * (self._seconds() >= (self.spec.max_runtime_s or math.inf))
        return Due(self.world.agree(due))

    def _take_step(self) -> None:
        images, labels_B, draws_BD = self.batches.load(self.counts.step)
        step, epoch = self.counts.step, self.counts.step // self.steps_per_epoch
        own_lr = conv1_learning_rate(self.config, step, self.steps_per_epoch)
        set_learning_rate(self.optimiser, self._learning_rate(step), own_lr)
        torch.manual_seed(_derive(self.spec.seed, _DROPOUT_STREAM, step, self.world.rank))
        x_BCHW = self.augmentation(images, draws_BD, epoch)
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with (
            examining(
                self.placed.trained, wanted=self.world.is_first and self._is_at_interval(step + 1)
            ) as self.examination,
            autocast(self.device, self.precision),
        ):
            logits_BK = self.placed.network(x_BCHW)
        count = self.batches.count(step)
        loss = F.cross_entropy(logits_BK.float(), labels_B, label_smoothing=self.config.label_smoothing)
        loss = loss * self.world.share_of(count).weight
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        if self.examination is not None:
            self.examination.measure_gradients(self.placed.trained, scale=self.scaler.get_scale())
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.loss_sum += self.world.total(loss.detach().double()) / self.world.shares * count
        self.counts.epoch_images += count
        self._images_here += count
        self.counts.step += 1
        if self.failpoints:
            self.failpoints.hit(f"{STEP}{self.counts.step}")
        if self.counts.step == self._first_step_here + 1:
            self.hooks.on_first_step()

    def _is_at_interval(self, step: int) -> bool:
        return step % (self.config.interval_steps or max(1, self.steps_per_epoch // 20)) == 0

    def _learning_rate(self, step: int) -> float:
        return learning_rate(self.config, step, self.steps_per_epoch, self.counts.history)

    def _describe_rate(self) -> str:
        return describe_rate(self.config, max(0, self.counts.step - 1), self.steps_per_epoch)

    def _report_step(self, due: Due) -> None:
        counts, now = self.counts, self._clock()
        if not self._is_at_interval(counts.step) and Due.TELL not in due:
            return
        seconds = max(1e-9, now - self._resumed_at)
        speed = (counts.step - self._first_step_here) / seconds  # steps a second
        point = {
            "epoch": counts.epoch,
            "step": counts.step,
            "train_loss": self._mean_loss(),
            "lr": self._learning_rate(counts.step - 1),
            "images_per_s": self._images_here / seconds,
        }
        if self.examination is not None:
            self.hooks.on_interval(point | self.examination.describe())
            self._warn_of_trouble(self.examination)
        if Due.TELL in due:
            self._told_at = now
            ends = {"epochs": self.config.epochs, "steps": self.steps, "fraction": counts.step / self.steps}
            self.hooks.on_progress(point | ends | {"eta_s": (self.steps - counts.step) / speed if speed else None})

    def _save_if_due(self, due: Due) -> None:
        at_end = self.counts.step == (self.counts.epoch + 1) * self.steps_per_epoch
        if at_end or Due.SAVE not in due:
            return
        try:
            self._save("recovery", None, is_best=False)
        except DiskFull as exc:
            self.hooks.on_warning(exc.code, str(exc))
            self._saved_at = self._clock()

    def _finish_epoch(self) -> None:
        counts = self.counts
        train_loss = self._mean_loss()
        self._gather()
        validation = self.world.first(self._validate)
        self._set_modes()
        if validation is None:
            return
        seconds = counts.epoch_seconds + self._clock() - self._epoch_began_at
        metrics = {"train_loss": train_loss}
        metrics |= {f"val_{key}": validation[key] for key in ("loss", "top1", "top5") if key in validation}
        metrics["seconds"] = round(seconds, 3)
        counts.epoch += 1
        counts.history.append(metrics)
        if is_best := is_better(metrics, counts.best):
            counts.best = {"epoch": counts.epoch, "name": self._name("epoch")} | metrics
        self.hooks.on_epoch(counts.epoch, counts.step, metrics)
        self._start_epoch()
        self._save("epoch", metrics, is_best=is_best)

    def _validate(self) -> dict[str, float] | None:
        if self.validate_on == "none":
            return {}
        return evaluate(
            self.model, self.pack, self.validate_on, self.preprocessing,
            device=self.device, precision=self.precision, should_stop=self.hooks.should_stop,
        )  # fmt: skip

    def _start_epoch(self) -> None:
        self.counts.epoch_images, self.counts.epoch_seconds = 0, 0.0
        self.loss_sum.zero_()
        self._epoch_began_at = self._clock()

    def _warn_of_trouble(self, examination: Examination) -> None:
        counts = self.counts
        if not can_judge(counts.step, self.steps_per_epoch):
            return
        for trouble in find_trouble(
            examination, loss=self._mean_loss(), step=counts.step, num_classes=self.pack.facts.num_classes,
            rate=self._describe_rate(),
        ):  # fmt: skip
            self._warn_once(trouble)

    def _warn_once(self, trouble: Trouble) -> None:
        if trouble.code not in self.counts.warned:
            self.counts.warned.append(trouble.code)
            self.hooks.on_warning(trouble.code, trouble.message)

    def _seconds(self) -> float:
        return self.counts.seconds + self._clock() - self._resumed_at

    def _stop(self, outcome: str) -> RunResult:
        if self.last_checkpoint is None or self.last_checkpoint[0] != self.counts.step:
            self._save("recovery", None, is_best=False)
        return self._result(outcome, None)

    def _result(self, outcome: str, test: dict[str, Any] | None) -> RunResult:
        path = self.last_checkpoint[1] if self.last_checkpoint else None
        digest = weights_sha256(self.placed.collect(self.placed.trained.state_dict()))
        return RunResult(outcome, self.counts.step, self.counts.epoch, digest, test, path)

    def _test(self) -> dict[str, Any] | None:
        """Accuracy of the best checkpoint, as it is on disk, on the test split, in fp32."""
        if not self.pack.facts.num_test:
            return None
        path = self._find_best()
        model = build_model(self.config, self.pack.facts.num_classes, self.channels).to(self.device)
        try:
            if path is None:
                raise CheckpointCorrupt("the best epoch's checkpoint is gone")
            model.load_state_dict(load_checkpoint(path).weights)
        except (CheckpointCorrupt, CheckpointIncompatible) as exc:
            self.hooks.on_warning(exc.code, f"{exc}; the last weights are tested in its place")
            model = self.model
        found = evaluate(
            model, self.pack, "test", self.preprocessing,
            device=self.device, crops=self.config.test_crops, should_stop=self.hooks.should_stop,
        )  # fmt: skip
        return None if found is None else found | {"chosen_on": self.validate_on}

    def _find_best(self) -> Path | None:
        """The best epoch's checkpoint: of this run, or of the one that it goes on from."""
        best = self.counts.best
        own = None if best is None else Path(self.spec.checkpoint_root, best["name"])
        return own if own is not None and own.is_dir() else self.spec.best_checkpoint

    def _mean_loss(self) -> float:
        mean = float(self.loss_sum) / max(1, self.counts.epoch_images)
        if not math.isfinite(mean):
            raise Diverged(
                f"the loss became {mean} by step {self.counts.step}: lower {self._describe_rate()} and try again"
            )
        return mean

    def _save(self, kind: str, metrics: dict[str, float] | None, *, is_best: bool) -> None:
        counts = self.counts
        self._mean_loss()
        counts.epoch_loss, counts.loss_scale = float(self.loss_sum), self.scaler.state_dict()
        seconds = counts.epoch_seconds + self._clock() - self._epoch_began_at
        weights = self.placed.collect(self.placed.trained.state_dict())
        weights = {name: value.detach().cpu() for name, value in weights.items()}
        if not all(_is_finite(value) for value in weights.values()):
            raise Diverged(f"a weight is no number at step {counts.step}: lower {self._describe_rate()}")
        metadata = {
            "format_version": 1, "kind": kind, "job_id": self.spec.job_id, "lease_epoch": self.spec.lease_epoch,
            "epoch": counts.epoch, "step": counts.step, "metrics": metrics, "dataset": self.pack.facts.name,
            "dataset_digest": self.pack.digest, "weights_sha256": weights_sha256(weights), "seed": self.spec.seed,
            "environment": self.environment, "validate_on": self.validate_on,
        }  # fmt: skip
        checkpoint = Checkpoint(
            self.spec.checkpoint_root / self._name(kind), self.config, tuple(self.pack.facts.class_names),
            self.preprocessing, metadata, weights,
            asdict(counts) | {"epoch_seconds": seconds, "seconds": self._seconds()},
            self.placed.collect(optimiser_tensors(self.optimiser, self.placed.trained)),
        )  # fmt: skip
        saved = self.world.first(lambda: save_checkpoint(checkpoint, failpoints=self.failpoints))
        self._saved_at, self.last_checkpoint = self._clock(), (counts.step, saved.path)
        self.hooks.on_checkpoint(kind, saved, metadata, is_best)

    def _restore(self, path: Path) -> None:
        checkpoint = load_checkpoint(path, state=True)
        metadata, state = checkpoint.metadata, checkpoint.state or {}
        if metadata["dataset_digest"] != self.pack.digest or metadata["seed"] != self.spec.seed:
            raise CheckpointIncompatible(f"checkpoint {path} belongs to another dataset or seed: start anew from it")
        try:
            self.placed.trained.load_state_dict(self.placed.pick(checkpoint.weights))
        except RuntimeError as exc:
            raise CheckpointIncompatible(f"the weights of {path} don't fit this network: {exc}") from exc
        buffers = self.placed.pick(checkpoint.state_tensors or {})
        load_optimiser_tensors(self.optimiser, self.placed.trained, buffers)
        self.counts = Counts(**state)
        if self._find_best() is None:  # its checkpoint is gone: the best one is one of those that come
            self.counts.best = None
        self.scaler.load_state_dict(self.counts.loss_scale)
        self.difference = explain_difference(metadata["environment"], self.environment)
        self.last_checkpoint = (self.counts.step, path)

    def _describe_start(self) -> dict[str, Any]:
        return {
            "epoch": self.counts.epoch, "step": self.counts.step, "steps": self.steps,
            "steps_per_epoch": self.steps_per_epoch, "epochs": self.config.epochs, "device": self.world.device,
            "fraction": self.counts.step / self.steps, "environment": self.environment,
            "precision_reason": self.precision_reason, "bit_exact": self.bit_exact, "started_anew": self.started_anew,
            "resumed_from": str(self.spec.resume_from) if self.spec.resume_from else None,
        }  # fmt: skip

    def _name(self, kind: str) -> str:
        return str(CheckpointName(kind, self.counts.step, self.spec.lease_epoch))


def _is_finite(value: Tensor) -> bool:
    """Whether all of its values are numbers; without a mask of its size."""
    return not value.numel() or all(math.isfinite(end) for end in torch.aminmax(value))


def _derive(seed: int, stream: int, index: int, rank: int = 0) -> int:
    """A seed of its own for everything that is drawn; the first process's is that of one that is alone."""
    entropy = [seed, stream, index, *([rank] if rank else [])]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1
