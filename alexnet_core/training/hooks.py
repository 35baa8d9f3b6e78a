"""The calls by which a run reports its progress, and asks whether to stop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from typing_extensions import override

from alexnet_core.messages import Calibrated, CheckpointSaved, EpochEnd, Interval, Progress, Started

if TYPE_CHECKING:
    from torch import Tensor


class Hooks:
    """Receives the reports of a run; override the methods that you need.

    Every method is called from the training thread, and the run waits until it returns.
    """

    def on_started(self, report: Started) -> None:
        """Called just before the first step."""

    def on_first_step(self) -> None:
        """Called after the first step of this process."""

    def on_progress(self, report: Progress) -> None:
        """Called after a step, at most every half second."""

    def on_interval(self, report: Interval) -> None:
        """Called every `interval_steps` steps, with a point of the curves."""

    def on_samples(self, step: int, samples: Mapping[str, Tensor]) -> None:
        """Called at an epoch's first interval with some of each layer's activations and weights, for histograms."""

    def on_epoch(self, report: EpochEnd) -> None:
        """Called after an epoch's validation, before its checkpoint is written."""

    def on_checkpoint(self, report: CheckpointSaved) -> None:
        """Called when a checkpoint is complete and in its place."""

    def on_evaluating(self) -> None:
        """Called at most once, when the detailed evaluation at the end of the run takes longer than a moment."""

    def on_calibrated(self, report: Calibrated) -> None:
        """Called at the end of a run whose best checkpoint was calibrated."""

    def on_warning(self, code: str, message: str) -> None:
        """Called when there is a problem that does not end the run."""

    def should_stop(self) -> bool:
        """Called after every step and every batch of a validation: whether to write a checkpoint and return."""
        return False


class FanOut(Hooks):
    """Calls several hooks in order. The run stops if any of them says so."""

    def __init__(self, *hooks: Hooks) -> None:
        self._hooks = hooks

    @override
    def on_started(self, report: Started) -> None:
        for hooks in self._hooks:
            hooks.on_started(report)

    @override
    def on_first_step(self) -> None:
        for hooks in self._hooks:
            hooks.on_first_step()

    @override
    def on_progress(self, report: Progress) -> None:
        for hooks in self._hooks:
            hooks.on_progress(report)

    @override
    def on_interval(self, report: Interval) -> None:
        for hooks in self._hooks:
            hooks.on_interval(report)

    @override
    def on_samples(self, step: int, samples: Mapping[str, Tensor]) -> None:
        for hooks in self._hooks:
            hooks.on_samples(step, samples)

    @override
    def on_epoch(self, report: EpochEnd) -> None:
        for hooks in self._hooks:
            hooks.on_epoch(report)

    @override
    def on_checkpoint(self, report: CheckpointSaved) -> None:
        for hooks in self._hooks:
            hooks.on_checkpoint(report)

    @override
    def on_evaluating(self) -> None:
        for hooks in self._hooks:
            hooks.on_evaluating()

    @override
    def on_calibrated(self, report: Calibrated) -> None:
        for hooks in self._hooks:
            hooks.on_calibrated(report)

    @override
    def on_warning(self, code: str, message: str) -> None:
        for hooks in self._hooks:
            hooks.on_warning(code, message)

    @override
    def should_stop(self) -> bool:
        return any(hooks.should_stop() for hooks in self._hooks)


class Muted(Hooks):
    """Passes no reports to its hooks, but still asks them whether to stop."""

    def __init__(self, hooks: Hooks) -> None:
        self._hooks = hooks

    @override
    def should_stop(self) -> bool:
        return self._hooks.should_stop()
