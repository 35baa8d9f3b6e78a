from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from api.previews import machine_speed
from api.previews.machine_speed import measure_flops_per_s


def test_the_speed_is_plausible_and_measured_once() -> None:
    speed = measure_flops_per_s()
    assert 1e8 < speed < 1e15
    began = time.thread_time()  # not of the clock: the machine may do something else for a moment
    assert measure_flops_per_s() == speed
    assert time.thread_time() - began < 0.01


def test_those_who_ask_at_once_wait_for_one_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    num_clients, measured = 8, threading.Semaphore(0)
    meeting = threading.Barrier(num_clients)

    def fill(*args: object, **kwargs: object) -> np.ndarray:
        measured.release()
        time.sleep(0.1)  # while the others ask
        return np.zeros((2, 2), dtype=np.float32)

    monkeypatch.setattr(np, "ones", fill)
    machine_speed._measure.cache_clear()

    def ask(_: int) -> float:
        meeting.wait(10)
        return measure_flops_per_s()

    try:
        with ThreadPoolExecutor(num_clients) as clients:
            assert len(set(clients.map(ask, range(num_clients)))) == 1
    finally:
        machine_speed._measure.cache_clear()
    assert measured.acquire(blocking=False)
    assert not measured.acquire(blocking=False)
