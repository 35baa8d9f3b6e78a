"""Decides what a run reports to its hooks, and when.

Any step may be reported, but few are: a point of the curves at each interval, and progress twice a second. A step that
is not reported costs nothing; not even its loss is read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alexnet_core.layout import CheckpointKind
from alexnet_core.messages import Calibrated, CheckpointSaved, EpochEnd, Interval, Progress, Started, StoredFile
from alexnet_core.network.checkpoint import SavedCheckpoint
from alexnet_core.reliability import Calibration
from alexnet_core.training.diagnosis import Answers, Examination, can_judge, find_trouble, list_remedies
from alexnet_core.training.hooks import Hooks
from alexnet_core.training.plan import Trouble
from alexnet_core.training.run_spec import RunSpec, Setting
from alexnet_core.training.run_state import Metrics, RunState

_PROGRESS_EVERY_S = 0.5


class Reporter:
    """Reports the progress of a run to its hooks.

    Args:
        hooks: to be told.
        spec: of the run.
        setting: of the run.
        state: of the run, as it is when this process begins.
        clock: seconds.
    """

    def __init__(
        self, hooks: Hooks, spec: RunSpec, setting: Setting, state: RunState, clock: Callable[[], float]
    ) -> None:
        self._hooks, self._spec, self._setting, self._state, self._clock = hooks, spec, setting, state, clock
        self._began_at, self._first_step, self._num_images = clock(), state.counts.step, 0
        self._told_at, self._answers = 0.0, Answers()

    def start(self) -> None:
        """Report that the first step is about to begin."""
        state, setting, resume_from = self._state, self._setting, self._spec.resume_from
        self._hooks.on_started(
            Started(
                **self._place(), steps_per_epoch=setting.steps_per_epoch, device=str(setting.device),
                environment=setting.environment, precision_reason=setting.precision_reason,
                bit_exact=state.difference is None, started_anew=state.started_anew,
                resumed_from=str(resume_from) if resume_from else None,
            )
        )  # fmt: skip
        if state.difference is not None:
            self.warn("resume_not_bit_exact", state.difference)
        if setting.trouble_of_split is not None:
            self._warn_once(setting.trouble_of_split)

    def count_step(self, num_images: int) -> None:
        """Count a step of this process, and report the first one."""
        self._num_images += num_images
        if self._state.counts.step == self._first_step + 1:
            self._hooks.on_first_step()

    def is_progress_due(self) -> bool:
        """Whether enough time has passed since the last progress report."""
        return self._clock() - self._told_at >= _PROGRESS_EVERY_S

    def tell_step(self, examination: Examination | None, *, with_progress: bool) -> None:
        """Report the step that was just made, if it is due.

        Args:
            examination: of this step; None: it was not examined.
            with_progress: all processes agreed that progress is due.

        Raises:
            Diverged: the loss is not finite.
        """
        step, now = self._state.counts.step, self._clock()
        if not self._setting.is_at_interval(step) and not with_progress:
            return
        seconds, train_loss = max(1e-9, now - self._began_at), self._state.mean_loss()
        images_per_s = self._num_images / seconds
        if examination is not None:
            self._tell_interval(examination, train_loss, images_per_s)
        if with_progress:
            self._told_at = now
            left, speed = self._setting.steps - step, (step - self._first_step) / seconds
            self._hooks.on_progress(
                Progress(**self._place(), images_per_s=images_per_s, eta_s=left / speed if speed else None)
            )

    def tell_epoch(self, metrics: Metrics) -> None:
        """Report the results of the last epoch's validation."""
        counts = self._state.counts
        self._hooks.on_epoch(EpochEnd(epoch=counts.epoch, step=counts.step, metrics=dict(metrics)))

    def tell_checkpoint(self, saved: SavedCheckpoint, metadata: dict[str, Any], *, is_best: bool) -> None:
        """Report that a checkpoint is in its place."""
        self._hooks.on_checkpoint(
            CheckpointSaved(
                kind=CheckpointKind(metadata["kind"]), path=saved.path.absolute(), epoch=metadata["epoch"],
                step=metadata["step"], metrics=metadata["metrics"],
                files={name: StoredFile(**entry) for name, entry in saved.files.items()},
                size_bytes=saved.size_bytes, weights_sha256=saved.weights_sha256,
                manifest_sha256=saved.manifest_sha256, is_best=is_best,
            )
        )  # fmt: skip

    def tell_evaluating(self) -> None:
        """Report that the detailed evaluation takes longer than a moment."""
        self._hooks.on_evaluating()

    def tell_calibration(self, weights_sha256: str, calibration: Calibration) -> None:
        """Report how far the probabilities of some weights can be trusted."""
        self._hooks.on_calibrated(Calibrated(weights_sha256=weights_sha256, calibration=calibration))

    def warn(self, code: str, message: str) -> None:
        """Report a problem; the run goes on."""
        self._hooks.on_warning(code, message)

    def should_stop(self) -> bool:
        """Whether the hooks want the run to stop."""
        return self._hooks.should_stop()

    def _tell_interval(self, examination: Examination, train_loss: float, images_per_s: float) -> None:
        counts, setting = self._state.counts, self._setting
        self._hooks.on_interval(
            Interval(
                epoch=counts.epoch, step=counts.step, train_loss=train_loss, images_per_s=images_per_s,
                seconds=round(self._state.seconds, 3),
                lr=setting.learning_rate(counts.step - 1, counts.history), **examination.describe(),
            )
        )  # fmt: skip
        self._answers.add(examination)
        before = range(counts.epoch * setting.steps_per_epoch + 1, counts.step)
        if not any(setting.is_at_interval(step) for step in before):  # an epoch's first: a run that goes on adds none
            self._hooks.on_samples(counts.step, examination.samples)
        if not can_judge(counts.step, setting.steps_per_epoch):
            return
        for trouble in find_trouble(
            examination, loss=train_loss, step=counts.step, num_classes=self._spec.pack.facts.num_classes,
            rate=setting.describe_rate(counts.step), remedies=list_remedies(setting.config),
            is_better_than_guessing=self._answers_better_than_guessing(),
        ):  # fmt: skip
            self._warn_once(trouble)

    def _answers_better_than_guessing(self) -> bool:
        history, facts = self._state.counts.history, self._spec.pack.facts
        top1 = history[-1].get("val_top1") if history else None
        num_images = facts.num_test if self._setting.validate_on == "test" else facts.num_val
        return self._answers.are_better_than_guesses(top1, num_images)

    def _warn_once(self, trouble: Trouble) -> None:
        """Report a problem once in the life of the run, over all attempts."""
        if trouble.code not in self._state.counts.warned:
            self._state.counts.warned.append(trouble.code)
            self.warn(trouble.code, trouble.message)

    def _place(self) -> dict[str, Any]:
        counts, setting = self._state.counts, self._setting
        return {
            "epoch": counts.epoch, "epochs": setting.config.epochs, "step": counts.step, "steps": setting.steps,
            "fraction": counts.step / setting.steps,
        }  # fmt: skip
