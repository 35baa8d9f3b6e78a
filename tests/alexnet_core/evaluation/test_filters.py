import io
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from alexnet_core.evaluation.filters import GAP_PX, KERNEL_PX, LABEL_PX, draw_filters


def pixels(png: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png)))


def test_every_pixel_of_two_known_grey_kernels() -> None:
    kernels = np.array([[[[-1.0, 0.0], [1.0, 3.0]]], [[[-1.0, -0.5], [0.0, 0.0]]]])
    side = KERNEL_PX // 2
    square = np.ones((side, side), np.uint8)
    white = np.full((2 * GAP_PX + KERNEL_PX, 3 * GAP_PX + 2 * KERNEL_PX), 255, np.uint8)
    wanted: dict[Literal["common", "own"], tuple[list[list[int]], list[list[int]]]] = {
        "common": ([[0, 64], [128, 255]], [[0, 32], [64, 64]]),
        "own": ([[0, 64], [128, 255]], [[0, 128], [255, 255]]),
    }
    for scale, (first, second) in wanted.items():
        expected = white.copy()
        for left, values in ((GAP_PX, first), (2 * GAP_PX + KERNEL_PX, second)):
            expected[GAP_PX:-GAP_PX, left : left + KERNEL_PX] = np.kron(values, square)
        np.testing.assert_array_equal(pixels(draw_filters(kernels, scale)), expected)


def test_three_channels_give_colours() -> None:
    kernels = np.zeros((3, 3, 1, 1))
    kernels[0, 0] = kernels[1, 1] = kernels[2, 2] = 1
    middle, step = GAP_PX + KERNEL_PX // 2, KERNEL_PX + GAP_PX
    picture = pixels(draw_filters(kernels))
    assert picture[middle, middle::step].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]


def test_the_papers_96_kernels_are_six_rows_of_sixteen_in_their_order() -> None:
    kernels = np.broadcast_to(np.arange(96.0).reshape(96, 1, 1, 1), (96, 3, 11, 11))
    picture = pixels(draw_filters(kernels))
    assert picture.shape == (6 * 46 + 2, 16 * 46 + 2, 3)
    middles = picture[24::46, 24::46, 0].ravel()
    np.testing.assert_array_equal(middles, np.rint(np.arange(96) / 95 * 255))


def test_the_last_row_is_white_where_it_has_no_kernel() -> None:
    picture = pixels(draw_filters(np.arange(17.0).reshape(17, 1, 1, 1)))
    assert picture.shape == (2 * 46 + 2, 16 * 46 + 2)
    assert (picture[48:, 48:] == 255).all()
    assert picture[70, 24] == 255  # the highest value
    assert picture[24, 24] == 0


@pytest.mark.parametrize("scale", ["common", "own"])
def test_kernels_without_any_difference_are_middle_grey(scale: Literal["common", "own"]) -> None:
    assert pixels(draw_filters(np.full((1, 1, 3, 3), 7.0), scale))[20, 20] == 128


@pytest.mark.parametrize("kernels", [np.zeros((0, 3, 3, 3)), np.zeros((4, 2, 3, 3)), np.full((1, 1, 1, 1), np.nan)])
def test_what_can_not_be_drawn_is_refused(kernels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="kernel"):
        draw_filters(kernels)


def test_two_towers_stand_below_each_other_each_under_its_name() -> None:
    """The paper's figure: 48 kernels of the first GPU in three rows, those of the second below."""
    kernels = np.broadcast_to(np.arange(96.0).reshape(96, 1, 1, 1), (96, 3, 11, 11))
    plain, labelled = pixels(draw_filters(kernels)), pixels(draw_filters(kernels, towers=2))
    half = 3 * (KERNEL_PX + GAP_PX) + GAP_PX
    assert labelled.shape == (2 * (half + LABEL_PX), plain.shape[1], 3)
    np.testing.assert_array_equal(labelled[LABEL_PX : LABEL_PX + half], plain[:half])
    np.testing.assert_array_equal(labelled[2 * LABEL_PX + half :], plain[half - GAP_PX :])
    names = labelled[:LABEL_PX], labelled[LABEL_PX + half : 2 * LABEL_PX + half]
    assert all((name < 128).any() and (name[:, 400:] == 255).all() for name in names)
    assert not np.array_equal(*names)


@pytest.mark.parametrize("num", [1, 2, 3, 5])
def test_a_few_kernels_of_two_towers_are_drawn_too(num: int) -> None:
    picture = pixels(draw_filters(np.arange(float(num)).reshape(num, 1, 1, 1), towers=2))
    middles = picture[LABEL_PX + GAP_PX + KERNEL_PX // 2, GAP_PX + KERNEL_PX // 2 :: KERNEL_PX + GAP_PX]
    first_half = (num + 1) // 2
    expected = [round(255 * n / (num - 1)) if num > 1 else 128 for n in range(first_half)]
    assert middles[:first_half].tolist() == pytest.approx(expected, abs=1)
