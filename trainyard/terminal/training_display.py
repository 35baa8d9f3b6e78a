"""Shows how a job trains: a bar with loss, accuracy, speed and remaining time, and the curves as sparklines."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from trainyard.terminal.rows import Row
from trainyard.terminal.sparkline import draw_sparkline
from trainyard.terminal.words import STYLES, say_count, say_duration, say_loss, say_percent, say_waiting

REFRESH_S = 1.0  # between two readings of the curves
SPARK_WIDTH = 24


@dataclass
class Curves:
    """The points of a job's series that have been seen."""

    by_step: list[dict[str, Any]] = field(default_factory=list)
    by_epoch: list[dict[str, Any]] = field(default_factory=list)

    def losses(self) -> list[float | None]:
        """Return the logarithms of the training losses: by step if there are some, else by epoch."""
        by_step = [point.get("train_loss") for point in self.by_step]
        losses = by_step if len(by_step) > 1 else [point.get("train_loss") for point in self.by_epoch]
        return logarithms(losses)

    def accuracies(self) -> list[float | None]:
        """Return the share of validation images that were right, by epoch."""
        return [point.get("val_top1") for point in self.by_epoch]


def logarithms(losses: Sequence[float | None]) -> list[float | None]:
    """Return logarithms, in which a curve shows more of its end; None for what has none."""
    return [None if loss is None or loss <= 0 else math.log(loss) for loss in losses]


class TrainingDisplay:
    """What stands on the terminal while a job trains; a renderable of rich, which is asked anew several times a second.

    Args:
        name: of the job.
        read_curves: reads the job's series; None: only what the job itself says is shown.
        on_epoch: told each epoch's point once, in their order.
        clock: seconds.
    """

    def __init__(
        self,
        name: str,
        read_curves: Callable[[], Curves] | None = None,
        on_epoch: Callable[[Row, dict[str, Any]], None] = lambda job, point: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._read_curves = read_curves
        self._on_epoch = on_epoch
        self._clock = clock
        self._job: Row | None = None
        self._curves = Curves()
        self._told = 0
        self._seen: tuple[int, int] = (-1, -1)
        self._read_at = float("-inf")
        self._spinner = Spinner("dots")

    def show(self, job: Row) -> None:
        """Show a job as it is now."""
        self._job = job
        step, epoch = job["progress"]["step"], job["progress"]["epoch"]
        is_over = job["state"] in {"succeeded", "failed", "cancelled"}
        is_new = (step, epoch) != self._seen
        if not is_new and not is_over:
            return
        if self._read_curves is None:
            self._note_epoch_of(job)
        elif is_over or epoch != self._seen[1] or self._clock() - self._read_at >= REFRESH_S:
            self._curves, self._read_at = self._read_curves(), self._clock()
        else:
            return
        self._seen = (step, epoch)
        for point in self._curves.by_epoch:
            if point["epoch"] > self._told:
                self._told = point["epoch"]
                self._on_epoch(job, point)

    def _note_epoch_of(self, job: Row) -> None:
        epoch = job["progress"]["epoch"]
        if job["metrics"] and epoch and epoch not in [point["epoch"] for point in self._curves.by_epoch]:
            self._curves.by_epoch.append({"epoch": epoch} | dict(job["metrics"]))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines."""
        job = self._job
        if job is None:
            yield Text(self._name)
            return
        if job["state"] == "running" and job["progress"]["steps"]:
            yield self._bar(job, console)
            yield Text("  ".join(_numbers(job)), no_wrap=True, overflow="ellipsis")
        else:
            self._spinner.update(text=Text(f"{self._name}  {_say_state(job)}", style=STYLES.get(job["state"], "")))
            yield self._spinner
        if (curves := self._draw_curves(console)) is not None:
            yield curves

    def _bar(self, job: Row, console: Console) -> Table:
        progress = job["progress"]
        line = Table.grid(padding=(0, 1), expand=False)
        bar = ProgressBar(progress["steps"], progress["step"], width=max(10, min(40, console.width - 50)))
        left = say_duration(progress["eta_s"])
        line.add_row(
            Text(f"epoch {progress['epoch']}/{progress['epochs']}" if progress["epochs"] else self._name, "bold"),
            bar,
            f"{progress['step'] / progress['steps']:.0%}",
            Text(f"step {progress['step']}/{progress['steps']}", "dim"),
            f"{left} left" if left else "",
        )
        return line

    def _draw_curves(self, console: Console) -> Text | None:
        width = max(8, min(SPARK_WIDTH, (console.width - 30) // 2))
        text = Text(no_wrap=True)
        for name, values, style in (
            ("loss", self._curves.losses(), "magenta"),
            ("validation", self._curves.accuracies(), "green"),
        ):
            known = [value for value in values if value is not None]
            if len(known) > 1:
                text.append("   " if text else "").append(f"{name} ", "dim")
                text.append(draw_sparkline(known, width, encoding=console.encoding), style)
        return text if text else None


def say_scores(metrics: dict[str, Any] | None) -> str:
    """Return an epoch's loss and accuracy as one phrase."""
    parts, found = [], metrics or {}
    if found.get("train_loss") is not None:
        parts.append(f"loss {say_loss(found['train_loss'])}")
    if found.get("val_top1") is not None:
        parts.append(f"validation {say_percent(found['val_top1'])}")
    return ", ".join(parts)


def _numbers(job: Row) -> Sequence[str]:
    parts = [say_scores(job["metrics"]).replace(", ", "  ")] if job["metrics"] else []
    if job["progress"]["images_per_s"]:
        parts.append(f"{say_count(job['progress']['images_per_s'])} images/s")
    return parts or ["the first epoch is under way"]


def _say_state(job: Row) -> str:
    if job["waiting_for"]:
        return say_waiting(job["waiting_for"])
    reason = job["state_reason"]
    return f"{job['state']} ({reason.replace('_', ' ')})" if reason and job["state"] == "running" else str(job["state"])
