"""Writes the TensorBoard event files of a run; `tensorboard --logdir FOLDER` shows them.

steps/     train/loss, train/lr, train/images_per_s by optimiser step; warnings as text; once an epoch histograms of
           activations/relu1 and so on, and of weights/conv1.weight and so on
epochs/    train/loss, val/loss, val/top1, val/top5 by epoch

There are two folders because TensorBoard calls each folder a run, and a run has only one axis. Every attempt adds a
file to each, with names that sort in the order of the attempts. A file begins with a mark that tells readers to drop
the points of earlier files from there on. So a run that is resumed from a checkpoint continues its series, and a step
that was trained twice appears once. Points are written to the file at every checkpoint and every few seconds, from the
training thread: the library's own writer thread ends silently at the first error, and its queue then blocks whoever
writes.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tensorboardX import summary
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import RecordWriter
from typing_extensions import override

from alexnet_core.layout import BY_EPOCH, BY_STEP, event_file_name
from alexnet_core.messages import CheckpointSaved, EpochEnd, Interval, Progress, Started
from alexnet_core.training.hooks import FanOut, Hooks

if TYPE_CHECKING:
    from torch import Tensor

FLUSH_EVERY_S = 5.0
_HISTOGRAM_BARS = 40
WARNING = "tensorboard_unwritable"
_BY_STEP = {"train_loss": "train/loss", "lr": "train/lr", "images_per_s": "train/images_per_s"}
_BY_EPOCH = {"train_loss": "train/loss", "val_loss": "val/loss", "val_top1": "val/top1", "val_top5": "val/top5"}


@contextmanager
def beside_event_files(hooks: Hooks, folder: Path | None, *, attempt: int) -> Iterator[Hooks]:
    """Return these hooks combined with event files in a folder. None: these hooks alone."""
    if folder is None:
        yield hooks
        return
    event_files = EventFiles(folder, attempt=attempt, warn=hooks.on_warning)
    try:
        yield FanOut(hooks, event_files)
    finally:
        event_files.close()


class EventFiles(Hooks):
    """Hooks that write event files. If writing fails, they warn once and the run goes on without them."""

    def __init__(
        self,
        folder: Path,
        *,
        attempt: int,
        warn: Callable[[str, str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Prepare the files; nothing is written before the run starts.

        Args:
            folder: of this run alone; made when it is not there.
            attempt: higher than that of every earlier attempt of this run.
            warn: told code and message when the files can't be written.
            clock: seconds since 1970.
        """
        self._folder, self._attempt, self._warn, self._clock = folder, attempt, warn, clock
        self._series: dict[str, _Series] = {}
        self._step, self._flushed_at = 0, clock()

    def close(self) -> None:
        """Write what is pending and close the files."""
        with self._guarded():
            self._flush()
        self._drop()

    @override
    def on_started(self, report: Started) -> None:
        self._step = report.step
        with self._guarded():
            for name, folder, done in (("step", BY_STEP, report.step), ("epoch", BY_EPOCH, report.epoch)):
                path = self._folder.absolute() / folder
                self._series[name] = _Series(path, self._attempt, done + 1, self._clock)
            self._flush()

    @override
    def on_progress(self, report: Progress) -> None:
        self._step = report.step
        if not 0 <= self._clock() - self._flushed_at < FLUSH_EVERY_S:
            with self._guarded():
                self._flush()

    @override
    def on_interval(self, report: Interval) -> None:
        self._step = report.step
        self._add_scalars("step", report.step, dict(report), _BY_STEP)

    @override
    def on_samples(self, step: int, samples: Mapping[str, Tensor]) -> None:
        with self._guarded():
            for name, values in samples.items():
                finite = values[values.isfinite()].cpu().numpy()
                if self._series and finite.size:
                    self._series["step"].add(step, summary=summary.histogram(name, finite, bins=_HISTOGRAM_BARS))

    @override
    def on_epoch(self, report: EpochEnd) -> None:
        self._step = report.step
        self._add_scalars("epoch", report.epoch, report.metrics, _BY_EPOCH)

    @override
    def on_checkpoint(self, report: CheckpointSaved) -> None:
        with self._guarded():  # what comes before a checkpoint is not trained again, so it must be in the file
            self._flush()

    @override
    def on_warning(self, code: str, message: str) -> None:
        with self._guarded():
            if self._series:
                self._series["step"].add(self._step, summary=summary.text(f"warnings/{code}", message))

    def _add_scalars(self, name: str, at: int, values: dict[str, Any], tags: dict[str, str]) -> None:
        with self._guarded():
            if self._series:
                for key in tags.keys() & values.keys():
                    self._series[name].add(at, summary=summary.scalar(tags[key], values[key]))

    def _flush(self) -> None:
        self._flushed_at = self._clock()
        for series in self._series.values():
            series.flush()

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            self._drop()
            self._warn(WARNING, f"no more TensorBoard points until the run is resumed: {self._folder}: {exc}")

    def _drop(self) -> None:
        for series in self._series.values():
            with suppress(OSError):
                series.close()
        self._series = {}


class _Series:
    """One event file, for the values that share an axis."""

    def __init__(self, folder: Path, attempt: int, first: int, clock: Callable[[], float]) -> None:
        """Open a new file and mark that points from `first` on replace those of earlier files."""
        self._clock = clock
        folder.mkdir(parents=True, exist_ok=True)
        self._file = RecordWriter(str(folder / event_file_name(attempt, clock(), socket.gethostname(), os.getpid())))
        self.add(0, file_version="brain.Event:2")
        self.add(first, session_log=SessionLog(status=SessionLog.START))

    def add(self, at: int, **content: Any) -> None:
        """Add an event."""
        self._file.write(Event(wall_time=self._clock(), step=at, **content).SerializeToString())

    def flush(self) -> None:
        """Write all events to the disk."""
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
