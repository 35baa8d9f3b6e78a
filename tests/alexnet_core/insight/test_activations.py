"""Pictures of maps and of units."""

from __future__ import annotations

import io

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.insight.activations import UNIT_PX, draw_activations


def read(data: bytes) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(data)))


def test_each_map_is_a_tile_and_the_brightest_place_is_the_highest_value() -> None:
    maps = np.zeros((20, 4, 4), np.float32)
    maps[17, 1, 2] = 5
    picture = read(draw_activations(maps))
    tile, gap = 44, 2
    assert picture.shape == (2 * (tile + gap) + gap, 16 * (tile + gap) + gap)
    row, column = gap + 1 * (tile + gap) + 11, gap + 1 * (tile + gap) + 22
    assert (picture[row : row + 11, column : column + 11] == 255).all()
    assert (picture[gap : gap + tile, gap : gap + tile] == 0).all()


def test_units_fill_a_square_row_by_row() -> None:
    units = np.arange(10, dtype=np.float32)
    picture = read(draw_activations(units))
    assert picture.shape == (3 * UNIT_PX, 4 * UNIT_PX)
    squares = picture[::UNIT_PX, ::UNIT_PX].ravel()
    assert squares[:10].tolist() == [round(255 * i / 9) for i in range(10)]
    assert squares[10:].tolist() == [255, 255]


def test_a_layer_that_is_the_same_everywhere_is_grey() -> None:
    assert set(read(draw_activations(np.ones(4, np.float32))).ravel()) == {128}
    assert 128 in read(draw_activations(np.ones((1, 3, 3), np.float32)))


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        draw_activations(np.array([1, np.inf], np.float32))
