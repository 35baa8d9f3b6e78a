from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from trainyard.terminal.sparkline import BLOCKS, PLAIN, draw_sparkline


def test_low_values_are_low_and_high_values_are_high() -> None:
    assert draw_sparkline([0, 1, 2, 3, 4, 5, 6, 7], 8) == BLOCKS
    assert draw_sparkline([1, 0], 8) == "█▁"


def test_more_values_than_blocks_are_averaged() -> None:
    assert draw_sparkline([0, 0, 7, 7, 8, 8], 3) == "▁▇█"


def test_nothing_and_equal_values() -> None:
    assert draw_sparkline([], 8) == ""
    assert draw_sparkline([None, math.nan, math.inf], 8) == ""
    assert draw_sparkline([3, 3, 3], 8) == "▁▁▁"
    assert draw_sparkline([1, 2], 0) == ""


def test_a_terminal_without_blocks_gets_plain_marks() -> None:
    assert draw_sparkline([0, 7], 8, encoding="ascii") == PLAIN[0] + PLAIN[-1]


@given(st.lists(st.none() | st.floats(width=32)), st.integers(0, 50))
def test_a_line_is_never_longer_than_it_may_be(values: list[float | None], width: int) -> None:
    line = draw_sparkline(values, width)
    assert len(line) <= width
    assert set(line) <= set(BLOCKS)
