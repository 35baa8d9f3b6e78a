"""Shows on the terminal how uploads, validations, training and predictions go: bars on a terminal, lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
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
from rich.prompt import Confirm, Prompt
from rich.table import Table
from rich.text import Text

from trainyard.terminal.rows import Row
from trainyard.terminal.training_display import Curves, TrainingDisplay, say_scores
from trainyard.terminal.words import say_between, say_percent, say_state, say_waiting


class Finding(Protocol):
    """The result of a check."""

    @property
    def check(self) -> str:
        """Return what was checked."""

    @property
    def verdict(self) -> str:
        """Return `ok`, `warning` or `problem`."""

    @property
    def text(self) -> str:
        """Return what was found."""

    @property
    def advice(self) -> str | None:
        """Return what to do about it."""


class Terminal:
    """What is printed. Progress goes to standard error, so that standard output stays for results."""

    def __init__(self, *, out: Console | None = None, progress: Console | None = None) -> None:
        self.out = out or Console(highlight=False, soft_wrap=True)
        self._side = progress or Console(stderr=True, highlight=False, soft_wrap=True)

    @property
    def can_ask(self) -> bool:
        """Whether a person is there to answer a question."""
        return self._side.is_terminal and sys.stdin.isatty()

    def confirm(self, question: str) -> bool:
        """Ask a question that is answered with y or n; no answer, or the end of the input, is a no.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        with self._asking():
            return Confirm.ask(escape(question), console=self._side, default=False)
        return False

    def ask_secret(self, question: str) -> str:
        """Ask for a text that is not shown while it is typed; the end of the input is an empty one.

        Raises:
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        with self._asking():
            return Prompt.ask(escape(question), console=self._side, password=True, default="", show_default=False)
        return ""

    @contextmanager
    def _asking(self) -> Iterator[None]:
        """End the line of a question that nobody answers."""
        try:
            yield
        except EOFError:
            self._side.print()
        except KeyboardInterrupt:
            self._side.print()
            raise

    def tell(self, text: str) -> None:
        """Print a result."""
        self.out.print(text, markup=False)

    def print_wide(self, table: Table) -> None:
        """Print a table: as wide as the terminal; uncut where there is none."""
        if self.out.is_terminal:
            self.out.print(table, soft_wrap=False)
        else:
            Console(file=self.out.file, width=2000, highlight=False, color_system=None).print(table)

    def tell_findings(self, findings: Iterable[Finding]) -> None:
        """Print what checks found, each with what to do about it."""
        for finding in findings:
            style = {"ok": "green", "warning": "yellow"}.get(finding.verdict, "red")
            self.out.print(Text(f"{finding.verdict:<8}", style) + Text(f"{finding.check}: {finding.text}"))
            if finding.advice:
                self.out.print(Text(f"{'':8}{finding.advice}", "dim"))

    def say(self, text: str) -> None:
        """Print a line beside the progress."""
        self._side.print(text, markup=False)

    @contextmanager
    def uploading(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Show an upload; yields what is told the bytes that have arrived, and all."""
        with self.transferring(f"uploading {name}") as tell:
            yield tell
        self._plainly(f"uploaded {name}")

    @contextmanager
    def downloading(self, name: str) -> Iterator[Callable[[int, int], None]]:
        """Show a download; yields what is told the bytes that have arrived, and all, or 0 if that is not known."""
        with self.transferring(f"downloading {name}") as tell:
            yield tell

    @contextmanager
    def transferring(self, title: str) -> Iterator[Callable[[int, int], None]]:
        """Show an upload or download; yields what is told the bytes that have come, and all, or 0 if not known."""
        with self._bar(DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()) as bar:
            task = bar.add_task(title, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total or None)

    @contextmanager
    def exporting(self, name: str) -> Iterator[tuple[Callable[[int, int], None], Callable[[str], None]]]:
        """Show an export; yields what is told the checkpoint's bytes that have come, and what is told each file."""
        with self._bar(DownloadColumn(), transient=True) as bar:
            task = bar.add_task(f"exporting {name}", total=None)

            def tell(done: int, total: int) -> None:
                bar.update(task, completed=done, total=total or None)

            yield tell, lambda file: bar.update(task, description=f"exporting {name}: {file}")

    @contextmanager
    def validating(self, name: str) -> Iterator[Callable[[Row], None]]:
        """Show a dataset's validation; yields what is told the dataset."""
        with self._bar(MofNCompleteColumn(), TimeRemainingColumn(), transient=True) as bar:
            task = bar.add_task(f"checking {name}", total=None)

            def show(dataset: Row) -> None:
                progress, text = dataset["progress"], f"checking {name}"
                if dataset["waiting_for"]:
                    text += f" ({say_waiting(dataset['waiting_for'])})"
                elif progress:
                    text += f" ({progress['phase']})"
                done, total = (progress["done"], progress["total"]) if progress else (0, None)
                bar.update(task, description=text, completed=done, total=total)

            yield show

    @contextmanager
    def training(self, name: str, read_curves: Callable[[], Curves] | None = None) -> Iterator[Callable[[Row], None]]:
        """Show a job; yields what is told the job.

        Args:
            name: of the job.
            read_curves: reads its series; None: only what the job itself says is shown.
        """
        display = TrainingDisplay(name, read_curves, self._tell_epoch)
        if not self._side.is_terminal:
            yield display.show
            return
        with Live(display, console=self._side, refresh_per_second=8, transient=True):
            yield display.show

    def _tell_epoch(self, job: Row, point: dict[str, Any]) -> None:
        self._plainly(f"epoch {point['epoch']} of {job['progress']['epochs']}: {say_scores(point)}")

    @contextmanager
    def predicting(self, name: str) -> Iterator[Callable[[Row], None]]:
        """Show a prediction over many images; yields what is told the prediction."""
        with self._bar(MofNCompleteColumn(), TimeRemainingColumn(), transient=True) as bar:
            task = bar.add_task(f"predicting {name}", total=None)

            def show(prediction: Row) -> None:
                progress, text = prediction["progress"], f"predicting {name}"
                if prediction["waiting_for"]:
                    text += f" ({say_waiting(prediction['waiting_for'])})"
                elif progress and progress["phase"] != "predicting":
                    text += f" ({progress['phase']})"
                done, total = (progress["done"], progress["total"]) if progress else (0, None)
                bar.update(task, description=text, completed=done, total=total)

            yield show

    def tell_end(self, job: Row) -> None:
        """Say how a job ended."""
        took = say_between(job["started_at"], job["finished_at"])
        self.out.print(f"{say_state(job['state'])} {job['id']}" + (f" in {took}" if took else ""))
        if job["error"]:
            self.tell(job["error"]["message"])
        if job["test"]:
            scores = job["test"]
            self.tell(f"test: {say_percent(scores['top1'])} right of {scores['num_images']} images")

    def _plainly(self, text: str) -> None:
        """Print a line where no bar is shown."""
        if not self._side.is_terminal:
            self.say(text)

    @contextmanager
    def _bar(self, *columns: ProgressColumn, transient: bool = False) -> Iterator[Progress]:
        shown = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            *columns,
            console=self._side,
            disable=not self._side.is_terminal,
            transient=transient,
        )
        with shown:
            yield shown
