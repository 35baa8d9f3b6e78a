"""The trainer: a child process that takes commands on stdin, first a spec, and sends reports.

See `alexnet_core.messages`.

It dies with its worker and has no access to the database or the queue. It serves one attempt. If that attempt is told
to stop on a CPU, it leaves the process clean, and the trainer waits for another one. torch is imported only after the
process is tied to its parent.
"""

from __future__ import annotations

import gc
import logging
import math
import os
import queue
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from typing_extensions import override

from alexnet_core.child_processes import die_with_parent
from alexnet_core.durable import is_disk_full
from alexnet_core.messages import (
    PARENT_IS_GONE,
    PROTOCOL_ERROR,
    WORKER_WAS_SILENT,
    Alive,
    Calibrated,
    CheckpointSaved,
    EpochEnd,
    Failed,
    Finished,
    FirstStep,
    Interval,
    MalformedMessage,
    Outcome,
    Phase,
    Progress,
    Ready,
    Report,
    Spec,
    Started,
    Stop,
    StopReason,
    StopRequested,
    Warned,
    parse_command,
)
from alexnet_core.trainer.slot_lock import SlotLock
from alexnet_core.training.hooks import Hooks

log = logging.getLogger(__name__)

_LIFE_EVERY_S = 1.0
_LISTEN_S = 1.0


def serve(report_fd: int, parent_pid: int | None = None) -> int:
    """Serve attempts and return the exit status.

    Args:
        report_fd: file descriptor that reports are written to.
        parent_pid: see `die_with_parent`.
    """
    die_with_parent(parent_pid)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    commands = Commands()
    signal.signal(signal.SIGTERM, lambda *_: commands.stop(StopReason.DRAIN))
    reports = Reports(report_fd)

    _warm_up()
    status = None
    while status is None:
        reports.begin(None)
        try:
            reports.send(Ready())
        except BrokenPipeError:  # the worker has closed its end of the reports, and is about to close the commands'
            return PARENT_IS_GONE
        try:
            spec = commands.wait_for_spec()
        except MalformedMessage as exc:
            reports.send(Failed(code=PROTOCOL_ERROR, message=f"The trainer did not understand its spec: {exc}."))
            return 1
        status = 0 if spec is None else _serve(spec, commands, reports)
    return status


def _serve(spec: Spec, commands: Commands, reports: Reports) -> int | None:
    """Serve one attempt.

    Returns:
        The exit status; None: the process is as if it had served none, and waits for another.
    """
    commands.max_silence_s = spec.max_silence_s or math.inf
    reports.begin(spec)
    try:
        own_output = _redirect_output(spec.log_path)
        lock = SlotLock(spec.lock_path) if spec.lock_path else None
        if lock is not None and not lock.take(lambda: _bide(commands, reports)):
            reports.send(Finished(outcome=Outcome.STOPPED, reason=commands.stop_reason))
            return 0
        finished = _train(spec, commands, reports)
    except BaseException as exc:
        log.exception("the run failed")
        reports.send(_explain(exc))
        return 1
    stays = finished.outcome is Outcome.STOPPED and spec.device == "cpu"
    if stays:  # what the attempt held is free before the worker hears that it is over
        gc.collect()
        _restore_output(own_output)
        if lock is not None:
            lock.release()
        commands.expect_spec()
    reports.send(finished.model_copy(update={"stays": stays}))
    return None if stays else 0


def _stay(commands: Commands, reports: Reports) -> None:
    """Report that the trainer is alive while a large pack is read, which may take minutes."""
    reports.send_life()
    if commands.stop_reason is not None:
        raise StopRequested(commands.stop_reason)


def _bide(commands: Commands, reports: Reports) -> bool:
    """Report the wait while another process has the slot's lock. False: stop waiting."""
    reports.send_phase(Phase(reason="waiting_for_device"))
    return commands.stop_reason is None


class Commands:
    """The worker's commands, read by a thread of its own.

    The process ends when the worker closes its end, and when the worker is silent for longer than `max_silence_s`: a
    frozen worker's lease expires, and the worker that takes over the job needs the device.
    """

    def __init__(self) -> None:
        self._specs: queue.SimpleQueue[Spec | MalformedMessage | None] = queue.SimpleQueue()
        self._has_spec = False
        self.stop_reason: StopReason | None = None
        self.max_silence_s = math.inf
        threading.Thread(target=self._read, name="commands", daemon=True).start()

    def stop(self, reason: StopReason) -> None:
        """Stop after the current step. The first reason is kept, but a cancel replaces any other."""
        if self.stop_reason is None or reason is StopReason.CANCEL:
            self.stop_reason = reason
        if not self._has_spec:
            self._specs.put(None)

    def wait_for_spec(self) -> Spec | None:
        """Wait for the spec. None: told to stop before one came.

        Raises:
            MalformedMessage: what came in its place is no command that this version knows.
        """
        spec = self._specs.get()
        if isinstance(spec, MalformedMessage):
            raise spec
        return spec

    def expect_spec(self) -> None:
        """Forget what was said about the last attempt, and expect the next spec."""
        self._has_spec, self.stop_reason, self.max_silence_s = False, None, math.inf

    def _read(self) -> None:
        for line in self._read_lines(sys.stdin.fileno()):
            try:
                command = parse_command(line)
            except MalformedMessage as exc:
                log.warning("ignored a line that is not a command: %s", exc)
                if not self._has_spec:
                    self._specs.put(exc)
                continue
            if isinstance(command, Spec):
                self._has_spec = True
                self._specs.put(command)
            elif isinstance(command, Stop):
                self.stop(command.reason)
        os._exit(PARENT_IS_GONE)

    def _read_lines(self, fileno: int) -> Iterator[bytes]:
        """Yield lines until the end, unbuffered: a daemon thread with a buffered reader's lock aborts the exit."""
        rest, silent_s = b"", 0.0
        while True:
            if not select.select([fileno], [], [], _LISTEN_S)[0]:
                silent_s += _LISTEN_S  # counted, not measured: while we were frozen too, the worker can't be blamed
                if silent_s > self.max_silence_s:
                    log.error(
                        "the worker has been silent for %.0f s: it is frozen, and its lease has expired", silent_s
                    )
                    os._exit(WORKER_WAS_SILENT)
                continue
            silent_s = 0.0
            if not (data := os.read(fileno, 1 << 16)):
                return
            *lines, rest = (rest + data).split(b"\n")
            yield from lines


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

    def __init__(self, commands: Commands, reports: Reports) -> None:
        self._commands, self._send, self._send_life = commands, reports.send, reports.send_life

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
        return self._commands.stop_reason is not None


def _warm_up() -> None:
    """Import what a run needs and do what torch does at first use, on the CPU. No GPU is touched."""
    gc.disable()  # the collector would go through all modules again and again; later it leaves them alone
    import torch
    from torch import nn

    from alexnet_core.cpu_speed import get_cpu_speed
    from alexnet_core.training import tensorboard  # noqa: F401
    from alexnet_core.training.optimiser import BlockSGD

    model = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 2))
    optimiser = BlockSGD([{"params": list(model.parameters())}], lr=0.1, momentum=0.9)
    loss = nn.functional.cross_entropy(model(torch.zeros(4, 1, 8, 8)), torch.zeros(4, dtype=torch.int64))
    loss.backward()  # type: ignore[no-untyped-call]  # torch has no types for it
    optimiser.step()
    get_cpu_speed()
    gc.freeze()
    gc.enable()


def _train(spec: Spec, commands: Commands, reports: Reports) -> Finished:
    import torch

    from alexnet_core.data.pack import open_whole
    from alexnet_core.errors import DatasetChanged
    from alexnet_core.training.loop import Run
    from alexnet_core.training.run_spec import RunSpec
    from alexnet_core.training.tensorboard import beside_event_files

    torch.set_num_threads(spec.num_threads)
    try:
        pack = open_whole(spec.pack_dir, while_reading=lambda: _stay(commands, reports))
    except StopRequested as exc:
        return Finished(outcome=Outcome.STOPPED, reason=exc.reason)
    if spec.pack_digest not in {None, pack.digest}:
        raise DatasetChanged(f"the pack at {spec.pack_dir} is {pack.digest}, the job expects {spec.pack_digest}")
    run = RunSpec(
        config=spec.config, pack=pack, seed=spec.seed, checkpoint_root=spec.checkpoint_root, job_id=spec.job_id,
        lease_epoch=spec.lease_epoch, device=spec.device, recovery_every_s=spec.recovery_every_s,
        resume_from=spec.resume_from, best_checkpoint=spec.best_checkpoint, init_from=spec.init_from,
        max_runtime_s=spec.max_runtime_s, evaluation_path=spec.evaluation_path,
        evaluation_was_cut_off=spec.evaluation_was_cut_off, failpoints=spec.failpoints,
    )  # fmt: skip
    reporting = ReportingHooks(commands, reports)
    with beside_event_files(reporting, spec.tensorboard_dir, attempt=run.lease_epoch) as hooks:
        result = Run(run, hooks).train()
    log.info("%s at step %d", result.outcome, result.step)
    outcome = Outcome(result.outcome)
    return Finished(
        outcome=outcome, reason=commands.stop_reason if outcome is Outcome.STOPPED else None, step=result.step,
        epoch=result.epoch, weights_sha256=result.weights_sha256, test=result.test,
    )  # fmt: skip


def _explain(exc: BaseException) -> Failed:
    """Return code and message of the error that ended the run."""
    from pydantic import ValidationError

    from alexnet_core.errors import ConfigError, CoreError, DiskFull, explain_memory

    exc = explain_memory(exc) or exc
    if isinstance(exc, ValidationError):
        exc = ConfigError(str(exc))
    elif is_disk_full(exc):
        exc = DiskFull(f"no space left: {exc}")
    if isinstance(exc, CoreError):
        return Failed(code=exc.code, message=str(exc))
    summary = (str(exc).splitlines() or [""])[0]
    return Failed(code="internal_error", message=f"{type(exc).__name__}: {summary}")


def _redirect_output(log_path: Path | None) -> tuple[int, int]:
    """Write output to the job's log from now on, and return where it went before."""
    own_output = os.dup(1), os.dup(2)
    if log_path:
        log_path.parent.mkdir(parents=True, exist_ok=True)
        fileno = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        _point_output(fileno, fileno)
        os.close(fileno)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.Formatter.converter = time.gmtime
    return own_output


def _restore_output(own_output: tuple[int, int]) -> None:
    _point_output(*own_output)
    for fileno in own_output:
        os.close(fileno)


def _point_output(stdout: int, stderr: int) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
