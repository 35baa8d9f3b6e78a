"""Where a heat map lies on an image, and in which colours."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.insight.heat_maps import MAX_PX, Seen, draw_heat
from alexnet_core.insight.methods import View
from alexnet_core.network.preprocess import Preprocessing


def draw(
    heat: NDArray[np.floating[Any]], size: tuple[int, int], seen: Seen, view: View = View.HEAT, px: int | None = None
) -> NDArray[np.uint8]:
    image = np.full((size[1], size[0], 3), 90, np.uint8)
    return np.asarray(Image.open(io.BytesIO(draw_heat(heat.astype(np.float32), image, seen, view, px))))


@pytest.mark.parametrize(("width", "height"), [(500, 375), (300, 411), (64, 64)])
@pytest.mark.parametrize(("image_px", "resize_px"), [(24, None), (227, 256)])
def test_it_lies_on_what_the_network_sees(width: int, height: int, image_px: int, resize_px: int | None) -> None:
    """Found by what the transform itself makes of an image that says where each of its pixels is."""
    seen = Seen.of(width, height, image_px=image_px, resize_px=resize_px)
    how = Preprocessing(image_px=image_px, resize_px=resize_px, channels=1, mean=(0.0,), std=(1.0,))
    columns = np.broadcast_to(np.linspace(0, 250, width)[None, :, None], (height, width, 1)).astype(np.uint8).copy()
    rows = np.broadcast_to(np.linspace(0, 250, height)[:, None, None], (height, width, 1)).astype(np.uint8).copy()
    for ramp, first, length in ((columns, seen.left, width), (rows, seen.top, height)):
        cut = how.to_input(torch.from_numpy(ramp)[None])[0, 0].numpy()
        across = cut.mean(axis=0) if ramp is columns else cut.mean(axis=1)
        pixel = 250 / (length - 1)
        step = seen.side / image_px
        assert across[0] == pytest.approx((first + step / 2) * pixel, abs=1.5 * pixel + 1)
        assert across[-1] == pytest.approx((first + seen.side - step / 2) * pixel, abs=1.5 * pixel + 1)


def test_what_the_network_does_not_see_is_transparent() -> None:
    picture = draw(np.ones((24, 24)), (200, 100), Seen.of(200, 100, image_px=24, resize_px=None))
    assert picture.shape == (100, 200, 4)
    assert not picture[:, :50, 3].any()
    assert not picture[:, 150:, 3].any()
    assert picture[:, 50:150, 3].min() > 150


def test_for_is_vermilion_against_is_blue_and_weak_is_transparent() -> None:
    heat = np.zeros((16, 16))
    heat[:8], heat[8:, :8] = 1, -0.5
    picture = draw(heat, (16, 16), Seen.of(16, 16, image_px=16, resize_px=None))
    assert picture[2, 2].tolist() == [213, 94, 0, 204]
    assert picture[12, 2].tolist() == [0, 114, 178, 102]
    assert picture[12, 12, 3] == 0


def test_over_the_image_both_are_seen() -> None:
    heat = np.zeros((16, 16))
    heat[:8] = 1
    picture = draw(heat, (16, 16), Seen.of(16, 16, image_px=16, resize_px=None), View.OVERLAY)
    assert picture.shape == (16, 16, 3)
    assert picture[12, 12].tolist() == [90, 90, 90]
    assert picture[2, 2, 0] > picture[2, 2, 2] + 100


@pytest.mark.parametrize(
    ("size", "px", "expected"),
    [((3000, 1500), None, (512, MAX_PX)), ((30, 20), None, (20, 30)), ((30, 20), 300, (200, 300))],
)
def test_it_has_the_sides_of_the_image(size: tuple[int, int], px: int | None, expected: tuple[int, int]) -> None:
    assert draw(np.ones((8, 8)), size, Seen.of(*size, image_px=8, resize_px=None), px=px).shape[:2] == expected


def test_an_image_of_one_row_can_be_drawn() -> None:
    assert draw(np.ones((8, 8)), (5000, 1), Seen.of(5000, 1, image_px=8, resize_px=None)).shape == (1, MAX_PX, 4)
