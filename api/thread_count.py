"""How many threads compute: for predictions and for insight alike."""

from __future__ import annotations

import os


def choose_threads(wanted: int | None) -> int:
    """Return how many threads compute: what was asked for, or half of the cores, at least two if there are."""
    cores = os.cpu_count() or 2
    return wanted or max(min(2, cores), cores // 2)
