"""What a run tells, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet_core.data.pack import Pack
from alexnet_core.errors import Diverged
from alexnet_core.messages import CheckpointSaved, EpochEnd, Interval, Progress, Started
from alexnet_core.training.diagnosis import Examination
from alexnet_core.training.hooks import Hooks
from alexnet_core.training.loop import Run
from alexnet_core.training.reporter import Reporter
from alexnet_core.training.run_spec import RunSpec, Setting
from alexnet_core.training.run_state import RunState
from alexnet_core.training.world import World
from tests.alexnet_core.toy import CONFIG, write_toy_pack

pytestmark = pytest.mark.usefixtures("one_thread")
WELL = Examination(dead={"relu1": torch.tensor(0.0)}, gradient=torch.tensor(1.0))


class Told(Hooks):
    """Keeps all that it hears."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def on_started(self, report: Started) -> None:
        self.told.append(report)

    def on_first_step(self) -> None:
        self.told.append("first step")

    def on_progress(self, report: Progress) -> None:
        self.told.append(report)

    def on_interval(self, report: Interval) -> None:
        self.told.append(report)

    def on_epoch(self, report: EpochEnd) -> None:
        self.told.append(report)

    def on_checkpoint(self, report: CheckpointSaved) -> None:
        self.told.append(report)

    def on_warning(self, code: str, message: str) -> None:
        self.told.append((code, message))

    def take(self) -> list[Any]:
        told, self.told = self.told, []
        return told


class Desk:
    """A reporter with a state that a test changes, and a clock that it sets."""

    def __init__(self, pack: Pack, root: Path, steps_per_epoch: int = 100, **overrides: Any) -> None:
        spec = RunSpec(CONFIG.with_overrides(overrides), pack, 7, root)
        self.now, self.hooks = 100.0, Told()
        setting = Setting.of(spec, World("cpu"), steps_per_epoch)
        self.state = RunState(spec, setting, World("cpu"), lambda: self.now)
        self.reporter = Reporter(self.hooks, spec, setting, self.state, lambda: self.now)

    def step(self, loss: float = 1.0, seconds: float = 0.1) -> None:
        self.state.add_step(torch.tensor(loss * 16, dtype=torch.float64), 16)
        self.reporter.count_step(16)
        self.now += seconds


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return write_toy_pack(tmp_path_factory.mktemp("packs") / "toy")


def test_the_start_says_where_the_run_stands(pack: Pack, tmp_path: Path) -> None:
    desk = Desk(pack, tmp_path)
    desk.state.counts.step = 150
    desk.reporter.start()
    [told] = desk.hooks.take()
    assert (told.step, told.steps, told.epochs, told.fraction) == (150, 300, 3, 0.5)
    assert (told.device, told.bit_exact, told.resumed_from, told.started_anew) == ("cpu", True, None, [])


def test_the_first_step_of_a_process_is_told_of_once(pack: Pack, tmp_path: Path) -> None:
    desk = Desk(pack, tmp_path)
    for _ in range(3):
        desk.step()
    assert desk.hooks.take() == ["first step"]


def test_a_step_is_told_of_at_an_interval_or_when_progress_is_due(pack: Pack, tmp_path: Path) -> None:
    desk = Desk(pack, tmp_path, interval_steps=2)
    desk.step()
    desk.hooks.take()
    desk.reporter.tell_step(None, with_progress=False)
    assert desk.hooks.take() == []
    desk.step(loss=3.0)
    desk.reporter.tell_step(WELL, with_progress=True)
    interval, progress = desk.hooks.take()
    assert (interval.step, interval.train_loss, interval.gradient_norm) == (2, 2.0, 1.0)
    assert interval.images_per_s == pytest.approx(32 / 0.2)
    assert progress.eta_s == pytest.approx(298 * 0.1)
    assert progress.images_per_s == interval.images_per_s


def test_progress_is_due_every_half_second(pack: Pack, tmp_path: Path) -> None:
    desk = Desk(pack, tmp_path)
    desk.step()
    assert desk.reporter.is_progress_due()
    desk.reporter.tell_step(None, with_progress=True)
    assert not desk.reporter.is_progress_due()
    desk.now += 0.49
    assert not desk.reporter.is_progress_due()
    desk.now += 0.01
    assert desk.reporter.is_progress_due()


def test_a_loss_that_is_no_number_ends_the_run_where_it_is_looked_at(pack: Pack, tmp_path: Path) -> None:
    desk = Desk(pack, tmp_path, interval_steps=5)
    desk.step(loss=float("nan"))
    desk.reporter.tell_step(None, with_progress=False)
    with pytest.raises(Diverged):
        desk.reporter.tell_step(None, with_progress=True)


def test_a_trouble_is_told_once_in_all_attempts(pack: Pack, tmp_path: Path) -> None:
    desk = Desk(pack, tmp_path, steps_per_epoch=10, interval_steps=1)
    for _ in range(60):
        desk.step(loss=1.2)
        desk.reporter.tell_step(WELL, with_progress=False)
    assert [told[0] for told in desk.hooks.take() if isinstance(told, tuple)] == ["not_learning"]
    assert desk.state.counts.warned == ["not_learning"], "it lies in the checkpoint: another attempt won't repeat it"


@pytest.mark.parametrize(("right", "warnings"), [(9, []), (6, ["not_learning"])])
def test_a_loss_like_that_of_guessing_is_told_of_only_where_the_answers_are_guesses(
    pack: Pack, tmp_path: Path, right: int, warnings: list[str]
) -> None:
    """Of three classes, the most frequent has 6 of 16 images; 9 right answers are 56 %."""
    desk = Desk(pack, tmp_path, steps_per_epoch=10, interval_steps=1)
    look = Examination(gradient=torch.tensor(1.0), right=torch.tensor(right), labels=torch.tensor([6, 5, 5]))
    for _ in range(60):
        desk.step(loss=1.09)
        desk.reporter.tell_step(look, with_progress=False)
    assert [told[0] for told in desk.hooks.take() if isinstance(told, tuple)] == warnings


def test_a_run_tells_of_everything_in_its_order(pack: Pack, tmp_path: Path) -> None:
    hooks = Told()
    Run(RunSpec(CONFIG.with_overrides({"epochs": 1, "interval_steps": 7}), pack, 7, tmp_path), hooks).train()
    kinds = [told if isinstance(told, str) else told.type for told in hooks.take() if not isinstance(told, Progress)]
    assert kinds == ["started", "first step", "interval", "epoch", "checkpoint"]
