"""Shows on the terminal how uploads, validations, training and predictions go: bars on a terminal, lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Json = dict[str, Any]

_ENDED = {"succeeded": "green", "failed": "red", "cancelled": "yellow"}


class Terminal:
    """What is printed. Progress goes to standard error, so that standard output stays for results."""

    def __init__(self, *, out: Console | None = None, progress: Console | None = None) -> None:
        self.out = out or Console(highlight=False, soft_wrap=True)
        self._side = progress or Console(stderr=True, highlight=False, soft_wrap=True)

    def tell(self, text: str) -> None:
        """Print a result."""
        self.out.print(text, markup=False)

    def say(self, text: str) -> None:
        """Print a line beside the progress."""
        self._side.print(text, markup=False)

    @contextmanager
    def uploading(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Show an upload; yields what is told the bytes that have arrived, and all."""
        with self._bar(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(f"uploading {name}", total=None)
            yield lambda sent, total: bar.update(task, completed=sent, total=total)
        self._plainly(f"uploaded {name}")

    @contextmanager
    def validating(self, name: str) -> Iterator[Callable[[Json], None]]:
        """Show a dataset's validation; yields what is told the dataset."""
        with self._bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(f"checking {name}", total=None)

            def show(dataset: Json) -> None:
                progress, text = dataset["progress"], f"checking {name}"
                if dataset["waiting_for"]:
                    text += f" (waiting for: {dataset['waiting_for']})"
                elif progress:
                    text += f" ({progress['phase']})"
                done, total = (progress["done"], progress["total"]) if progress else (0, None)
                bar.update(task, description=text, completed=done, total=total)

            yield show

    @contextmanager
    def training(self, name: str) -> Iterator[Callable[[Json], None]]:
        """Show a job; yields what is told the job."""
        told: set[Any] = set()
        with self._bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(name, total=None)

            def show(job: Json) -> None:
                progress = job["progress"]
                bar.update(
                    task,
                    description=f"{name} {_describe(job)}",
                    completed=progress["step"],
                    total=progress["steps"],
                )
                metrics = job["metrics"]
                if metrics and progress["epoch"] and progress["epoch"] not in told:
                    told.add(progress["epoch"])
                    self._plainly(f"epoch {progress['epoch']} of {progress['epochs']}: {_scores(metrics)}")

            yield show

    @contextmanager
    def predicting(self, name: str) -> Iterator[Callable[[Json], None]]:
        """Show a prediction over many images; yields what is told the prediction."""
        with self._bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(f"predicting {name}", total=None)

            def show(prediction: Json) -> None:
                progress, text = prediction["progress"], f"predicting {name}"
                if prediction["waiting_for"]:
                    text += f" (waiting for: {prediction['waiting_for']})"
                elif progress and progress["phase"] != "predicting":
                    text += f" ({progress['phase']})"
                done, total = (progress["done"], progress["total"]) if progress else (0, None)
                bar.update(task, description=text, completed=done, total=total)

            yield show

    def tell_end(self, job: Json) -> None:
        """Say how a job ended."""
        state = job["state"]
        self.out.print(f"[{_ENDED.get(state, 'default')}]{state}[/] {job['id']}")
        if job["error"]:
            self.tell(job["error"]["message"])
        if job["test"]:
            scores = job["test"]
            self.tell(f"test: {scores['top1']:.1%} right of {scores['num_images']} images")

    def _plainly(self, text: str) -> None:
        """Print a line where no bar is shown."""
        if not self._side.is_terminal:
            self.say(text)

    @contextmanager
    def _bar(self, *columns: ProgressColumn) -> Iterator[Progress]:
        shown = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *columns,
            console=self._side,
            disable=not self._side.is_terminal,
        )
        with shown:
            yield shown


def _describe(job: Json) -> str:
    if job["waiting_for"]:
        return f"waits for: {job['waiting_for']}"
    if job["state"] != "running":
        return str(job["state"])
    progress = job["progress"]
    parts = [f"epoch {progress['epoch']}/{progress['epochs']}"] if progress["epochs"] else []
    if job["metrics"]:
        parts.append(_scores(job["metrics"]))
    if progress["images_per_s"]:
        parts.append(f"{progress['images_per_s']:,.0f} images/s")
    return " · ".join(parts or [str(job["state_reason"] or job["state"])])


def _scores(metrics: Json) -> str:
    parts = []
    if metrics.get("train_loss") is not None:
        parts.append(f"loss {metrics['train_loss']:.3f}")
    if metrics.get("val_top1") is not None:
        parts.append(f"validation {metrics['val_top1']:.1%}")
    return ", ".join(parts)
