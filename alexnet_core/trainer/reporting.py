"""What a trainer tells its worker: the connection for its reports, and the hooks that send what happens in a run."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable

from typing_extensions import override

from alexnet_core.messages import (
    Alive,
    Calibrated,
    CheckpointSaved,
    EpochEnd,
    FirstStep,
    Interval,
    Phase,
    Progress,
    Report,
    Spec,
    Started,
    Warned,
)
from alexnet_core.training.hooks import Hooks

log = logging.getLogger(__name__)

_LIFE_EVERY_S = 1.0


class Reports:
    """The connection on which reports go to the worker."""

    def __init__(self, fileno: int) -> None:
        self._fileno = fileno
        os.set_inheritable(fileno, False)
        self.begin(None)

    def begin(self, spec: Spec | None) -> None:
        """From now on name this attempt in every report. None: name none."""
        self._ids = {"job_id": spec.job_id, "lease_epoch": spec.lease_epoch} if spec is not None else {}
        self._phase, self._lived_at = "", time.monotonic()

    def send(self, report: Report) -> None:
        """Send one report."""
        line = memoryview(report.model_copy(update=self._ids).to_line())
        while line:
            line = line[os.write(self._fileno, line) :]

    def send_phase(self, phase: Phase) -> None:
        """Report once what the trainer waits for, and from then on that it is alive."""
        if self._phase != phase.reason:
            self._phase = phase.reason
            self.send(phase)
        self.send_life()

    def send_life(self) -> None:
        """Report, at most once a second, that this process is still working."""
        if (now := time.monotonic()) - self._lived_at >= _LIFE_EVERY_S:
            self._lived_at = now
            self.send(Alive())


class ReportingHooks(Hooks):
    """Sends what happens in a run to the worker, and writes readable lines to the log."""

    def __init__(self, reports: Reports, *, should_stop: Callable[[], bool]) -> None:
        self._should_stop, self._send, self._send_life = should_stop, reports.send, reports.send_life

    @override
    def on_started(self, report: Started) -> None:
        precision = report.environment["precision"]
        log.info(
            "training on %s in %s (%s) from step %d of %d",
            *(report.device, precision, report.precision_reason, report.step, report.steps),
        )
        self._send(report)

    @override
    def on_first_step(self) -> None:
        self._send(FirstStep())

    @override
    def on_progress(self, report: Progress) -> None:
        self._send(report)

    @override
    def on_interval(self, report: Interval) -> None:
        self._send(report)

    @override
    def on_epoch(self, report: EpochEnd) -> None:
        metrics = " ".join(f"{key} {value:.4g}" for key, value in report.metrics.items())
        log.info("epoch %d: %s", report.epoch, metrics)
        self._send(report)

    @override
    def on_checkpoint(self, report: CheckpointSaved) -> None:
        log.info("%s checkpoint %s, %.1f MB", report.kind, report.path.name, report.size_bytes / 1e6)
        self._send(report)

    @override
    def on_evaluating(self) -> None:
        log.info("looking for training images whose label is likely wrong")
        self._send(Phase(reason="evaluating"))

    @override
    def on_calibrated(self, report: Calibrated) -> None:
        found = report.calibration
        log.info(
            "temperature %.3f; expected calibration error %.4f without it, %.4f with it, on %d images (%s)",
            *(found.temperature, found.before.ece, found.after.ece, found.num_images, found.split),
        )
        self._send(report)

    @override
    def on_warning(self, code: str, message: str) -> None:
        log.warning("%s: %s", code, message)
        self._send(Warned(code=code, message=message))

    @override
    def should_stop(self) -> bool:
        self._send_life()  # it is asked within a long validation, too, which else tells nothing for its whole time
        return self._should_stop()
