"""Pictures show the very pixels that are stored, or what they become at another size."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.data.inspection.thumbnails import draw_image, draw_sprite
from alexnet_core.data.pack import Pack
from alexnet_core.data.pack_draft import write_pack


def write_noise(target: Path, num: int, side: int, channels: int) -> Pack:
    images = np.random.default_rng(num).integers(0, 256, (num, side, side, channels)).astype(np.uint8)
    split = np.arange(num) % 3
    return write_pack(
        target,
        name="noise",
        class_names=("a", "b"),
        images_NHWC=images,
        labels_N=np.arange(num) % 2,
        split_N=split.astype(np.uint8),
        flip_safe=True,
    )


def read_png(data: bytes) -> NDArray[np.uint8]:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_an_image_is_drawn_pixel_by_pixel(tmp_path: Path, channels: int) -> None:
    pack = write_noise(tmp_path / "pack", 6, 12, channels)
    assert np.array_equal(read_png(draw_image(pack, 4)), pack.images[4])
    assert np.array_equal(read_png(draw_image(pack, 4, 12)), pack.images[4])


def test_a_larger_one_shows_its_pixels_as_squares(tmp_path: Path) -> None:
    pack = write_noise(tmp_path / "pack", 6, 8, 3)
    assert np.array_equal(read_png(draw_image(pack, 1, 24)), pack.images[1].repeat(3, 0).repeat(3, 1))


def test_a_smaller_one_is_averaged(tmp_path: Path) -> None:
    pack = write_noise(tmp_path / "pack", 6, 64, 1)
    small = read_png(draw_image(pack, 2, 8)).astype(float)
    assert small.shape == (8, 8, 1)
    assert small.std() < 0.4 * pack.images[2].std(), "single pixels of noise would keep its deviation"
    assert abs(small.mean() - pack.images[2].mean()) < 6


@pytest.mark.parametrize(("num", "rows"), [(1, 1), (8, 1), (9, 2), (64, 8)])
def test_number_i_of_a_sprite_is_where_its_readers_look(tmp_path: Path, num: int, rows: int) -> None:
    pack = write_noise(tmp_path / "pack", 70, 8, 3)
    positions = list(range(69, 69 - num, -1))
    sprite = read_png(draw_sprite(pack, positions, 16))
    assert sprite.shape == (rows * 16, 128, 3)
    for i, position in enumerate(positions):
        tile = sprite[i // 8 * 16 : i // 8 * 16 + 16, i % 8 * 16 : i % 8 * 16 + 16]
        assert np.array_equal(tile, pack.images[position].repeat(2, 0).repeat(2, 1))
    rest = 8 * rows - num
    assert rest == 0 or (sprite[-16:, 128 - rest * 16 :] == 255).all()


@pytest.mark.parametrize("num", [0, 65])
def test_a_sprite_of_too_few_or_too_many_images_is_refused(tmp_path: Path, num: int) -> None:
    pack = write_noise(tmp_path / "pack", 70, 8, 1)
    with pytest.raises(ValueError, match="1 to 64 images"):
        draw_sprite(pack, list(range(num)))
