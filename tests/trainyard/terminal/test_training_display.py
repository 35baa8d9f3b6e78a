"""What stands on a terminal while a job trains, at several widths, and what a pipe gets instead."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from trainyard.terminal.terminal import Terminal
from trainyard.terminal.training_display import Curves, TrainingDisplay, say_scores

POINTS = [{"epoch": n, "train_loss": 2.0**-n, "val_top1": 1 - 2.0**-n} for n in range(1, 6)]


def job(epoch: int, state: str = "running", **changes: Any) -> dict[str, Any]:
    progress = {"epoch": epoch, "epochs": 5, "step": 10 * epoch, "steps": 50, "images_per_s": 1234.5, "eta_s": 65.0}
    base = {"state": state, "state_reason": "claimed", "waiting_for": None, "progress": progress, "metrics": None}
    return base | {"metrics": POINTS[epoch - 1] if epoch else None} | changes


def draw(display: TrainingDisplay, width: int) -> list[str]:
    console = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with console.capture() as captured:
        console.print(display)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [60, 80, 200])
def test_bar_numbers_and_curves_fit_the_terminal(width: int) -> None:
    display = TrainingDisplay("job_1", lambda: Curves([], POINTS[:3]))
    display.show(job(3))
    lines = draw(display, width)
    assert len(lines) == 3
    assert all(len(line) <= width for line in lines), lines
    assert lines[0].startswith("epoch 3/5 ━")
    assert "60% step 30/50 1:05 left" in lines[0]
    assert lines[1] == "loss 0.125  validation 87.5%  1,234 images/s"
    assert lines[2] == "loss █▅▁   validation ▁▆█"


def test_a_job_that_waits_says_for_what() -> None:
    display = TrainingDisplay("job_1")
    assert draw(display, 80) == ["job_1"]
    display.show(job(0, "queued", waiting_for="a_free_slot"))
    assert draw(display, 80)[0].endswith("job_1  waits for a free slot")
    display.show(job(0, "running", state_reason="preparing_dataset", progress=job(0)["progress"] | {"steps": None}))
    assert "running (preparing dataset)" in draw(display, 80)[0]


def test_no_epoch_is_left_out_however_rarely_one_looks() -> None:
    told: list[int] = []
    known: list[dict[str, Any]] = []
    display = TrainingDisplay("job_1", lambda: Curves([], list(known)), lambda job, point: told.append(point["epoch"]))
    known[:] = POINTS[:1]
    display.show(job(1))
    known[:] = POINTS[:4]
    display.show(job(4))
    display.show(job(4))
    known[:] = POINTS
    display.show(job(4, "succeeded"))
    assert told == [1, 2, 3, 4, 5]


def test_curves_are_read_at_most_once_a_second_within_an_epoch() -> None:
    moment, reads = 0.0, 0

    def read() -> Curves:
        nonlocal reads
        reads += 1
        return Curves([{"train_loss": 1.0}, {"train_loss": 0.5}], [])

    display = TrainingDisplay("job_1", read, clock=lambda: moment)
    for step in range(40):
        moment = step / 10
        display.show(job(1, progress=job(1)["progress"] | {"step": step}))
    assert reads == 4


def test_a_pipe_gets_a_line_for_each_epoch_and_no_escape() -> None:
    side = io.StringIO()
    with Terminal(progress=Console(file=side)).training("job_1", lambda: Curves([], POINTS)) as show:
        show(job(5))
    assert side.getvalue().splitlines() == [f"epoch {point['epoch']} of 5: {say_scores(point)}" for point in POINTS]
    assert "\x1b" not in side.getvalue()
