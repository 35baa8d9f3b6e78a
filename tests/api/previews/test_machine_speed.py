from __future__ import annotations

import time

from api.previews.machine_speed import measure_flops_per_s


def test_the_speed_is_plausible_and_measured_once() -> None:
    speed = measure_flops_per_s()
    assert 1e8 < speed < 1e15
    began = time.perf_counter()
    assert measure_flops_per_s() == speed
    assert time.perf_counter() - began < 0.01
