"""Draws a series of numbers as one line of text."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
PLAIN = ".:-=+*#%"  #: for a terminal that can't show the blocks


def draw_sparkline(values: Sequence[float | None], width: int, *, encoding: str = "utf-8") -> str:
    """Return a line with a block for each value; neighbours share a block where there are more values than blocks.

    Args:
        values: in their order; None and what is not finite are left out.
        width: most characters of the line.
        encoding: of the terminal: one without blocks gets ASCII characters.

    Returns:
        A text that is empty if there is no value, and of the lowest blocks if all values are equal.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if not known or width < 1:
        return ""
    means = _average(known, width)
    low, high = min(means), max(means)
    marks = BLOCKS if "utf" in encoding.lower() else PLAIN
    if high == low:
        return marks[0] * len(means)
    return "".join(marks[round((value - low) / (high - low) * (len(marks) - 1))] for value in means)


def _average(values: list[float], width: int) -> list[float]:
    """Return at most `width` means of neighbours."""
    if len(values) <= width:
        return values
    bounds = [round(index * len(values) / width) for index in range(width + 1)]
    return [sum(values[start:end]) / (end - start) for start, end in itertools.pairwise(bounds)]
