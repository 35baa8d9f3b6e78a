"""A thread gives way for good, and never asks for a higher priority than it has."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from api.serving.loading import NICENESS
from api.thread_priority import BUSY_SHARE, MAX_PAUSE_S, Pace, give_way
from tests.api.served import FakeModel, FakeRuntime, Served, png

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
PNG = {"Content-Type": "image/png"}


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_gives_way_and_others_do_not() -> None:
    def give_way_twice() -> list[int]:
        give_way(7)
        first = niceness()
        give_way(3)  # without a privilege this would fail, if it were tried
        return [first, niceness()]

    before = niceness()
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(give_way_twice).result() == [max(7, before)] * 2
    assert niceness() == before


def test_the_first_model_is_loaded_at_once_and_the_next_gives_way_to_its_answers(
    serve: Callable[..., Served], runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    load = runtime.load

    def watched(folder: Path) -> FakeModel:
        seen.append(niceness())
        return load(folder)

    monkeypatch.setattr(runtime, "load", watched)
    served = serve()
    job_id = served.add_job()
    for epoch in (1, 2):
        checkpoint = served.add_checkpoint(job_id, epoch)
        answer = served.http.post(f"/predict?model={checkpoint.id}", content=png(), headers=PNG)
        assert answer.status_code == 200
    usual = niceness()
    assert seen == [usual, max(usual, NICENESS)]


class Clock:
    """The time that a thread has computed, and what it has slept."""

    def __init__(self) -> None:
        self.used_s, self.slept_s = 0.0, list[float]()
        self.is_busy = True

    def pace(self) -> Pace:
        return Pace(lambda: self.is_busy, sleep=self.slept_s.append, used=lambda: self.used_s)


def test_it_computes_for_its_share_of_the_time_while_others_wait() -> None:
    clock = Clock()
    pace = clock.pace()
    for piece_s in (0.001, 0.002, 0.004):
        clock.used_s += piece_s
        pace.pause()
    assert clock.slept_s == pytest.approx([0.003, 0.006, 0.012])
    assert 0.007 / (0.007 + sum(clock.slept_s)) == pytest.approx(BUSY_SHARE)


def test_it_goes_on_at_once_while_nobody_waits() -> None:
    clock = Clock()
    pace = clock.pace()
    clock.is_busy, clock.used_s = False, 0.01
    pace.pause()
    assert clock.slept_s == []
    clock.is_busy = True
    pace.pause()
    assert clock.slept_s == [0.0], "what was done while nobody waited is not made up for"


def test_no_pause_is_long() -> None:
    clock = Clock()
    pace = clock.pace()
    clock.used_s = 10.0
    pace.pause()
    assert clock.slept_s == [MAX_PAUSE_S]
