"""The training loop. It can be stopped after any step and resumed so that the result has the same bits.

The state that a run carries from step to step, and how it is saved, is in `run_state`; what it reports is in
`reporter`.

B batch, C channels, H height, W width, D draws
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from enum import IntFlag
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812

from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, DiskFull
from alexnet_core.evaluation.evaluate import evaluate
from alexnet_core.failpoints import STEP, Failpoints
from alexnet_core.layout import CheckpointKind
from alexnet_core.network.checkpoint import load_checkpoint
from alexnet_core.network.model import build_model
from alexnet_core.precision import autocast
from alexnet_core.training.augment import Augmentation
from alexnet_core.training.batches import Batches
from alexnet_core.training.diagnosis import Examination, examining
from alexnet_core.training.final_evaluation import FinalEvaluation, Tested, TestWatch
from alexnet_core.training.hooks import Hooks, Muted
from alexnet_core.training.optimiser import set_learning_rate
from alexnet_core.training.reporter import Reporter
from alexnet_core.training.run_spec import RunResult, RunSpec, Setting
from alexnet_core.training.run_state import Metrics, RunState
from alexnet_core.training.schedule import reason_to_end
from alexnet_core.training.streams import Stream, seed_torch
from alexnet_core.training.world import World


class Due(IntFlag):
    """What to do after a step, agreed on by all processes."""

    NOTHING = 0
    TELL = 1  #: report progress
    SAVE = 2  #: write a recovery checkpoint
    END = 4  #: the run has had its time
    STOP = 8  #: it was told to stop


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
        self.spec, self._clock = spec, clock
        self.world = world or World(spec.device)
        self.world.check(spec.config)
        self._failpoints = Failpoints(spec.failpoints)
        self.batches = Batches(spec.config, spec.pack, spec.seed, self.world)
        self.setting = Setting.of(spec, self.world, self.batches.steps_per_epoch)
        self.augmentation = Augmentation(spec.config, self.setting.preprocessing, spec.pack)
        self.state = RunState(spec, self.setting, self.world, clock)
        heard = hooks if self.world.is_first else Muted(hooks)
        self._reporter = Reporter(heard, spec, self.setting, self.state, clock)
        self._saved_at = clock()
        self._tested: Tested | None = None
        self._watch = None if spec.evaluation_path is None else TestWatch(spec.pack)

    def train(self) -> RunResult:
        """Train to the end, or until told to stop.

        Raises:
            Diverged: the loss or a weight is not finite.
            DiskFull: an epoch's or the last checkpoint does not fit.
        """
        counts, reporter = self.state.counts, self._reporter
        reporter.start()
        self._set_modes()
        while self._is_unfinished():
            if counts.step < (counts.epoch + 1) * self.setting.steps_per_epoch:
                examination = self.take_step()
                due = self._agree()
                reporter.tell_step(examination, with_progress=Due.TELL in due)
                self._save_if_due(due)
            else:
                self.finish_epoch()
                due = self._agree()
            if Due.STOP in due:
                return self._stop("stopped")
            if Due.END in due and self._is_unfinished():
                return self._stop("max_runtime")
        self.state.gather()
        test = self.world.first(self._test)
        if test is None and Due.STOP in self._agree():
            return self._stop("stopped")
        is_evaluated = self.world.first(lambda: self._evaluate(test))
        return self._result("succeeded", test) if is_evaluated else self._stop("stopped")

    def take_step(self) -> Examination | None:
        """Make one step: load a batch, change its images at random, forward pass, backward pass, update.

        Returns:
            What was seen of the network on the way, where this step is one to look.
        """
        state, setting, world, step = self.state, self.setting, self.world, self.state.counts.step
        images_BHWC, labels_B, draws_BD = self.batches.load(step)
        set_learning_rate(
            state.optimiser, setting.learning_rate(step, state.counts.history), setting.conv1_learning_rate(step)
        )
        torch.manual_seed(seed_torch(self.spec.seed, Stream.DROPOUT, step, world.rank))
        x_BCHW = self.augmentation(images_BHWC, draws_BD, step // setting.steps_per_epoch)
        x_BCHW = x_BCHW.contiguous(memory_format=torch.channels_last)
        with (
            examining(state.placed.trained, wanted=world.is_first and setting.is_at_interval(step + 1)) as examination,
            autocast(setting.device, setting.precision),
        ):
            logits_BK = state.placed.network(x_BCHW)
        count = self.batches.count(step)
        loss = F.cross_entropy(logits_BK.float(), labels_B, label_smoothing=self.spec.config.label_smoothing)
        loss = loss * world.share_of(count).weight
        state.optimiser.zero_grad(set_to_none=True)
        state.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]  # torch has no types for it
        if examination is not None:
            examination.measure_gradients(state.placed.trained, scale=state.scaler.get_scale())
            examination.measure_answers(logits_BK, labels_B)
        state.scaler.step(state.optimiser)
        state.scaler.update()
        state.add_step(world.total(loss.detach().double()) / world.shares * count, count)
        if self._failpoints:
            self._failpoints.hit(f"{STEP}{state.counts.step}")
        self._reporter.count_step(count)
        return examination

    def finish_epoch(self) -> None:
        """Validate an epoch and write its checkpoint. Nothing is done if the run is told to stop during validation."""
        state = self.state
        train_loss = state.mean_loss()
        state.gather()
        validation = self.world.first(self._validate)
        self._set_modes()
        if validation is None:
            return
        metrics = {"train_loss": train_loss}
        metrics |= {f"val_{key}": validation[key] for key in ("loss", "top1", "top5") if key in validation}
        metrics["seconds"] = round(state.epoch_seconds, 3)
        is_best = state.end_epoch(metrics)
        self._reporter.tell_epoch(metrics)
        state.start_epoch()
        self.save(CheckpointKind.EPOCH, metrics, is_best=is_best)

    def save(self, kind: CheckpointKind, metrics: Metrics | None = None, *, is_best: bool = False) -> None:
        """Write a checkpoint and report it."""
        saved, metadata = self.state.save(kind, metrics, self._failpoints)
        self._saved_at = self._clock()
        self._reporter.tell_checkpoint(saved, metadata, is_best=is_best)

    def _is_unfinished(self) -> bool:
        config, counts = self.spec.config, self.state.counts
        return counts.epoch < config.epochs and reason_to_end(config, counts.history) is None

    def _set_modes(self) -> None:
        """Put every layer into training mode, except that a frozen convolution's batch norm keeps its statistics."""
        placed = self.state.placed
        placed.network.train()
        frozen = {layer.replace("conv", "norm") for layer, factor in self.spec.config.layer_lr_factors if factor == 0}
        for path, module in placed.trained.named_modules():
            if path.rpartition(".")[2] in frozen:
                module.eval()

    def _agree(self) -> Due:
        """Agree on what to do after this step: by the first process's clock, and stop if any process asks for it."""
        due = Due.STOP if self._reporter.should_stop() else Due.NOTHING
        if self.world.is_first:
            due |= Due.TELL * self._reporter.is_progress_due()
            due |= Due.SAVE * (self._clock() - self._saved_at >= self.spec.recovery_every_s)
            due |= Due.END * (self.state.seconds >= (self.spec.max_runtime_s or math.inf))
        return Due(self.world.agree(due))

    def _save_if_due(self, due: Due) -> None:
        counts = self.state.counts
        is_at_end = counts.step == (counts.epoch + 1) * self.setting.steps_per_epoch
        if is_at_end or Due.SAVE not in due:
            return
        try:
            self.save(CheckpointKind.RECOVERY)
        except DiskFull as exc:
            self._reporter.warn(exc.code, str(exc))
            self._saved_at = self._clock()

    def _validate(self) -> dict[str, float] | None:
        setting = self.setting
        if setting.validate_on == "none":
            return {}
        return evaluate(
            self.state.model, self.spec.pack, setting.validate_on, setting.preprocessing,
            device=setting.device, precision=setting.precision, should_stop=self._reporter.should_stop,
        )  # fmt: skip

    def _test(self) -> dict[str, Any] | None:
        """Compute the accuracy on the test split, in fp32, of the best checkpoint as it is on disk."""
        config, pack, setting = self.spec.config, self.spec.pack, self.setting
        self._tested = tested = self._load_best()
        if not pack.facts.num_test:
            return None
        found = evaluate(
            tested.model, pack, "test", setting.preprocessing,
            device=setting.device, crops=config.test_crops, should_stop=self._reporter.should_stop,
            watch=self._watch,
        )  # fmt: skip
        return None if found is None else found | {"chosen_on": setting.validate_on}

    def _load_best(self) -> Tested:
        config, pack, setting = self.spec.config, self.spec.pack, self.setting
        path = self.state.find_best()
        model = build_model(config, pack.facts.num_classes, setting.channels).to(setting.device)
        try:
            if path is None:
                raise CheckpointCorrupt("the best epoch's checkpoint no longer exists")
            checkpoint = load_checkpoint(path)
            model.load_state_dict(checkpoint.weights)
        except (CheckpointCorrupt, CheckpointIncompatible) as exc:
            self._reporter.warn(exc.code, f"{exc}; the last weights are tested instead")
            return Tested(self.state.model, epoch=self.state.counts.epoch)
        return Tested(model, epoch=checkpoint.metadata.get("epoch"))

    def _evaluate(self, test: dict[str, Any] | None) -> bool:
        """Evaluate the tested weights in detail. False: it was told to stop."""
        if self._tested is None or self._watch is None:
            return True
        return FinalEvaluation(self.spec, self.setting, self._reporter).write(self._tested, test, self._watch)

    def _stop(self, outcome: str) -> RunResult:
        last = self.state.last_checkpoint
        if last is None or last[0] != self.state.counts.step:
            self.save(CheckpointKind.RECOVERY)
        return self._result(outcome, None)

    def _result(self, outcome: str, test: dict[str, Any] | None) -> RunResult:
        counts, last = self.state.counts, self.state.last_checkpoint
        return RunResult(outcome, counts.step, counts.epoch, self.state.hash_weights(), test, last and last[1])
