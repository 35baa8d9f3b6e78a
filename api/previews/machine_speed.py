"""Measures how fast this machine multiplies matrices, for a rough estimate where nothing has been trained yet."""

from __future__ import annotations

import threading
import time
from functools import cache

import numpy as np

_SIDE = 768  # of the matrices: 0.9 GFLOP a product
_ROUNDS = 4
_turn = threading.Lock()


def measure_flops_per_s() -> float:
    """Return the multiplications and additions in fp32 that this machine does in a second, on all of its cores.

    It is measured once in a process and takes some hundredths of a second. Whoever asks meanwhile waits for it: two
    measurements at once would each find a slow machine.
    """
    with _turn:
        return _measure()


@cache
def _measure() -> float:
    factor = np.ones((_SIDE, _SIDE), dtype=np.float32)
    times = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        factor @ factor
        times.append(time.perf_counter() - began)
    return 2 * _SIDE**3 / min(times)
