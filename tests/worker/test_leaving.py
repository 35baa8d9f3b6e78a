"""A drained worker ends though Celery does not."""

from __future__ import annotations

import os
import threading
from typing import Any, cast

import pytest

from tests.api.served import wait_until
from worker import leaving
from worker.leaving import Leaving
from worker.station import Station


class Draining:
    """Stands where a station would, with a job until `idle` is set."""

    def __init__(self) -> None:
        self.idle, self.is_waited_for = threading.Event(), threading.Event()
        self.closed = 0

    def wait_until_idle(self) -> None:
        self.is_waited_for.set()
        self.idle.wait(10)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def exits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    seen: list[int] = []
    monkeypatch.setattr(os, "_exit", seen.append)
    monkeypatch.setattr(leaving, "LEAVE_S", 0.05)
    return seen


def test_the_process_ends_once_every_job_is_given_back(exits: list[int]) -> None:
    station = Draining()
    ending = Leaving(cast(Station, station))
    ending.start()
    ending.start()  # a second signal
    assert station.is_waited_for.wait(10)
    assert exits == []
    station.idle.set()
    wait_until(lambda: exits == [0])
    assert station.closed == 1


def test_it_is_left_to_the_interpreter_where_celery_ends(exits: list[int]) -> None:
    station = Draining()
    ending = Leaving(cast(Station, station))
    ending.start()
    ending.celery_ended()
    station.idle.set()
    _join(ending)
    assert (station.closed, exits) == (1, [])


def _join(ending: Any) -> None:
    ending._thread.join(10)
    assert not ending._thread.is_alive()
