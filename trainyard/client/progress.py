"""Shows how uploads, downloads, validations and training go: bars on a terminal and in a notebook, lines elsewhere."""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from trainyard.client.kinds import OnProgress
from trainyard.client.models import Dataset, Job
from trainyard.terminal.terminal import Terminal
from trainyard.terminal.words import say_bytes, say_count, say_duration, say_loss, say_percent, say_waiting


@contextmanager
def show_bytes(title: str, progress: bool, also: OnProgress | None) -> Iterator[OnProgress]:
    """Show how many bytes have come; yields what is told them."""
    if not progress:
        yield also or (lambda done, total: None)
        return
    if (notebook := NotebookBar.find()) is not None:

        def show(done: int, total: int) -> None:
            notebook.show(title, done / total if total else None, f"{say_bytes(done)} of {say_bytes(total or done)}")
            if also is not None:
                also(done, total)

        yield show
        return
    with Terminal().transferring(title) as tell:

        def tell_both(done: int, total: int) -> None:
            tell(done, total)
            if also is not None:
                also(done, total)

        yield tell_both


@contextmanager
def show_dataset(
    name: str, progress: bool, also: Callable[[Dataset], None] | None
) -> Iterator[Callable[[Dataset], None]]:
    """Show a dataset's validation; yields what is told the dataset."""
    if not progress:
        yield also or (lambda dataset: None)
        return
    with Terminal().validating(name) as tell:

        def tell_both(dataset: Dataset) -> None:
            tell(dataset)
            if also is not None:
                also(dataset)

        yield tell_both


@contextmanager
def show_training(name: str, progress: bool, also: Callable[[Job], None] | None) -> Iterator[Callable[[Job], None]]:
    """Show a job; yields what is told the job."""
    if not progress:
        yield also or (lambda job: None)
        return
    if (notebook := NotebookBar.find()) is not None:

        def show(job: Job) -> None:
            notebook.show(*describe(name, job))
            if also is not None:
                also(job)

        yield show
        return
    with Terminal().training(name) as tell:

        def tell_both(job: Job) -> None:
            tell(job)
            if also is not None:
                also(job)

        yield tell_both


def describe(name: str, job: Job) -> tuple[str, float | None, str]:
    """Return what a notebook shows of a job: a title, the share that is done, and the numbers."""
    progress, metrics = job["progress"], job["metrics"] or {}
    if job["state"] == "queued":
        return name, None, say_waiting(job["waiting_for"] or "a_free_slot")
    parts = [str(job["state"])] if job["state"] != "running" else []
    if progress["epochs"]:
        parts.append(f"epoch {progress['epoch']} of {progress['epochs']}")
    if metrics.get("train_loss") is not None:
        parts.append(f"loss {say_loss(metrics['train_loss'])}")
    if metrics.get("val_top1") is not None:
        parts.append(f"validation {say_percent(metrics['val_top1'])}")
    if job["state"] == "running" and progress.get("images_per_s"):
        parts.append(f"{say_count(progress['images_per_s'])} images/s")
    if job["state"] == "running" and progress.get("eta_s") is not None:
        parts.append(f"{say_duration(progress['eta_s'])} left")
    fraction = 1.0 if job["state"] == "succeeded" else progress.get("fraction")
    return name, fraction, " · ".join(parts)


class NotebookBar:
    """A bar in a notebook's output, which needs no widgets and stays when the notebook is stored."""

    def __init__(self, display: Any) -> None:
        self._display = display
        self._handle: Any = None
        self._shown = ""

    @classmethod
    def find(cls) -> NotebookBar | None:
        """Return a bar if this code runs in a notebook."""
        shell = sys.modules.get("IPython")
        current = None if shell is None else shell.get_ipython()
        if current is None or not hasattr(current, "kernel"):
            return None
        from IPython.display import display

        return cls(display)

    def show(self, title: str, fraction: float | None, text: str) -> None:
        """Show how far it is; a fraction of None is not known yet."""
        from IPython import display

        percent = 0.0 if fraction is None else 100 * min(1.0, max(0.0, fraction))
        body = (
            f"<div style='font-family:system-ui,sans-serif;max-width:40em'><div><b>{html.escape(title)}</b> "
            f"{html.escape(text)}</div><progress max='100' value='{percent:.1f}' style='width:100%'></progress></div>"
        )
        if body == self._shown:
            return
        self._shown = body
        if self._handle is None:
            self._handle = self._display(display.HTML(body), display_id=True)
        else:
            self._handle.update(display.HTML(body))
