"""Several hooks as one, and hooks that hear nothing."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from alexnet_core.training.hooks import FanOut, Hooks, Muted
from tests.alexnet_core.reports import checkpoint_saved, epoch_end, interval, progress, started

CALLS: dict[str, tuple[Any, ...]] = {
    "on_started": (started(),), "on_first_step": (), "on_progress": (progress(1),), "on_interval": (interval(2),),
    "on_epoch": (epoch_end(1, val_top1=0.5),), "on_checkpoint": (checkpoint_saved(20),), "on_warning": ("a", "b"),
    "on_samples": (2, {}), "on_evaluating": (), "on_calibrated": (None,),
}  # fmt: skip


class Recorder(Hooks):
    """Writes down what it is told."""

    def __init__(self, said: list[Any], name: str, *, stops: bool = False) -> None:
        self._said, self._name, self._stops = said, name, stops

    def should_stop(self) -> bool:
        return self._stops

    def __getattribute__(self, method: str) -> Any:
        if not method.startswith("on_"):
            return super().__getattribute__(method)
        return lambda *values: self._said.append((self._name, method, values))


def test_every_hook_is_told_everything_in_order() -> None:
    said: list[Any] = []
    hooks = FanOut(Recorder(said, "first"), Recorder(said, "second"))
    for method, values in CALLS.items():
        getattr(hooks, method)(*values)
    assert said == [(name, method, values) for method, values in CALLS.items() for name in ("first", "second")]


def test_whatever_a_run_tells_is_tried_here_and_handed_on() -> None:
    told = {name for name, _ in inspect.getmembers(Hooks, inspect.isfunction) if name.startswith("on_")}
    assert told == set(CALLS)
    assert told <= set(vars(FanOut))


def test_any_hook_can_stop_the_run() -> None:
    assert not FanOut(Recorder([], "first"), Recorder([], "second")).should_stop()
    assert FanOut(Recorder([], "first"), Recorder([], "second", stops=True)).should_stop()


@pytest.mark.parametrize("stops", [False, True])
def test_muted_hooks_hear_nothing_and_are_asked_all_the_same(stops: bool) -> None:
    said: list[Any] = []
    hooks = Muted(Recorder(said, "only", stops=stops))
    for method, values in CALLS.items():
        getattr(hooks, method)(*values)
    assert said == []
    assert hooks.should_stop() is stops


def test_hooks_that_override_nothing_let_a_run_go_on() -> None:
    for method, values in CALLS.items():
        assert getattr(Hooks(), method)(*values) is None
    assert Hooks().should_stop() is False
