"""What a notebook shows, and that nothing is shown where nobody asks for it."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from trainyard.client.models import Job
from trainyard.client.progress import NotebookBar, describe, show_bytes, show_training

PROGRESS = {"epoch": 3, "epochs": 5, "step": 30, "steps": 50, "fraction": 0.6, "images_per_s": 1234.5, "eta_s": 65.0}
RUNNING = {
    "id": "job_1", "state": "running", "state_reason": "claimed", "waiting_for": None, "progress": PROGRESS,
    "metrics": {"train_loss": 0.5, "val_top1": 0.75},
}  # fmt: skip


def test_a_job_is_described_for_a_notebook() -> None:
    assert describe("job_1", Job.read(RUNNING)) == (
        "job_1", 0.6, "epoch 3 of 5 · loss 0.500 · validation 75.0% · 1,234 images/s · 1:05 left",
    )  # fmt: skip
    waiting = RUNNING | {"state": "queued", "waiting_for": "no_live_worker"}
    assert describe("job_1", Job.read(waiting))[1:] == (None, "waits for a worker: none is running")
    assert describe("job_1", Job.read(RUNNING | {"state": "succeeded"}))[1:] == (
        1.0, "succeeded · epoch 3 of 5 · loss 0.500 · validation 75.0%",
    )  # fmt: skip


def test_a_bar_of_a_notebook_is_made_once_and_then_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, body: Any) -> None:
            shown.append(body.data)

    def display(body: Any, *, display_id: bool) -> Handle:
        shown.append("made: " + body.data)
        return Handle()

    bar = NotebookBar(display)
    bar.show("<job>", None, "waits")
    bar.show("<job>", 0.5, "half")
    bar.show("<job>", 0.5, "half")
    assert len(shown) == 2
    assert shown[0].startswith("made: ")
    assert "&lt;job&gt;" in shown[0]
    assert "value='50.0'" in shown[1]


def test_a_notebook_is_known_by_its_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert NotebookBar.find() is None
    terminal = SimpleNamespace(get_ipython=lambda: SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython", terminal)
    assert NotebookBar.find() is None


def test_nothing_is_shown_unless_it_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Any] = []
    with show_bytes("x", False, lambda *given: told.append(given)) as tell:
        tell(1, 2)
    with show_training("job_1", False, None) as show:
        show(Job.read(RUNNING))
    assert told == [(1, 2)]
    assert capsys.readouterr() == ("", "")


def test_lines_are_shown_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    told: list[Job] = []
    with show_training("job_1", True, told.append) as show:
        show(Job.read(RUNNING))
    assert capsys.readouterr() == ("", "epoch 3 of 5: loss 0.500, validation 75.0%\n")
    assert len(told) == 1
