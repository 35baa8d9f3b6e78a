"""Long work beside heartbeats."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from worker.waiting import enter_beside, run_beside


def test_heartbeats_go_on_until_the_work_is_done() -> None:
    done, beats = threading.Event(), list[int]()

    def beat() -> None:
        beats.append(1)
        if len(beats) == 3:
            done.set()

    assert run_beside(lambda: done.wait(10), while_waiting=beat, tick_s=0.01) is True
    assert len(beats) >= 3


@pytest.mark.parametrize("error", [ZeroDivisionError, TimeoutError])
def test_what_the_work_raises_is_raised_here(error: type[Exception]) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(error):
        run_beside(fail, while_waiting=lambda: None, tick_s=0.01)


def test_a_context_that_nobody_waits_for_any_more_is_left_again() -> None:
    may_enter, left = threading.Event(), threading.Event()

    @contextlib.contextmanager
    def context() -> Iterator[str]:
        may_enter.wait(10)
        try:
            yield "value"
        finally:
            left.set()

    def give_up() -> None:
        raise InterruptedError

    with ExitStack() as held:
        with pytest.raises(InterruptedError):
            enter_beside(context(), held, while_waiting=give_up, tick_s=0.01)
        may_enter.set()
        assert left.wait(10)
        left.clear()
        assert enter_beside(context(), held, while_waiting=lambda: None, tick_s=0.01) == "value"
        assert not left.is_set()
    assert left.is_set()
