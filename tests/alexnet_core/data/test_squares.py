"""From an image file to the square that is stored."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ExifTags, Image

from alexnet_core.data.images import decode_image, decode_square
from alexnet_core.data.squares import (
    ImageShape,
    StoredShape,
    choose_shape,
    cut_centre,
    cut_image,
    cut_square,
    read_shape,
    to_pixels,
)
from alexnet_core.errors import ImageError, ImageTooLarge
from alexnet_core.network.preprocess import Preprocessing


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(32, 32), (32, 32)], 32),
        ([(256, 256)], 256),
        ([(300, 300)], 256),
        ([(500, 375), (100, 90)], 256),
        ([(40, 30), (28, 28)], 30),
        ([(5, 5)], 8),
    ],
)
def test_the_side_is_that_of_the_largest_up_to_256(sizes: list[tuple[int, int]], side: int) -> None:
    assert choose_shape([ImageShape(width, height, 3) for width, height in sizes]) == StoredShape(side, 3)


def test_the_side_can_be_chosen_and_one_colour_image_makes_all_colour() -> None:
    grey, colour = ImageShape(500, 400, 1), ImageShape(500, 400, 3)
    assert choose_shape([grey, grey], 64) == StoredShape(64, 1)
    assert choose_shape([grey, colour], 8).channels == 3
    for side in (7, 257):
        with pytest.raises(ValueError, match="use 8 to 256"):
            choose_shape([grey], side)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_the_header_foretells_size_and_channels_of_what_is_decoded(mode: str) -> None:
    data = encode(Image.new(mode, (7, 5)), "JPEG" if mode == "CMYK" else "PNG")
    shape = read_shape(io.BytesIO(data))
    assert (shape.height, shape.width, shape.channels) == decode_image(data).shape


def test_a_header_with_too_many_pixels_is_refused() -> None:
    with pytest.raises(ImageTooLarge, match="11x10, more than 100"):
        read_shape(io.BytesIO(encode(Image.new("L", (11, 10)))), max_pixels=100)


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (300, 301), (40, 64), (257, 1000)])
def test_a_stored_square_is_what_prediction_makes_of_the_same_image(size: tuple[int, int]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3)).astype(np.uint8)
    stored = cut_square(noise, StoredShape(64, 3))
    transform = Preprocessing(image_px=64, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3)
    served = transform.cut_centre(transform.resize(torch.from_numpy(noise)[None]))[0].permute(1, 2, 0).numpy()
    assert np.abs(stored - served).max() <= 1.01, "Pillow rounds after each of its two passes"


def test_an_image_whose_shorter_side_fits_keeps_its_pixels() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 30, 1)).astype(np.uint8)
    assert np.array_equal(cut_square(noise, StoredShape(9, 1)), noise[:, 10:19])
    assert np.array_equal(cut_square(noise, StoredShape(9, 3)), np.repeat(noise[:, 10:19], 3, axis=2))


@pytest.mark.parametrize("size", [(1, 1), (20_000, 1), (1, 20_000), (3, 1000)])
def test_a_very_long_or_tiny_image_takes_no_memory(size: tuple[int, int]) -> None:
    assert cut_square(np.full((*size, 1), 9, np.uint8), StoredShape(256, 3)).tolist() == [[[9] * 3] * 256] * 256


@given(
    file_format=st.sampled_from(["PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4),
    keep=st.floats(0, 1),
)
@settings(max_examples=100, deadline=None)
def test_a_spoiled_header_is_read_or_refused(file_format: str, changes: list[tuple[int, int]], keep: float) -> None:
    spoiled = bytearray(encode(Image.new("RGB", (20, 10), "red"), file_format))
    for place, value in changes:
        spoiled[place % min(100, len(spoiled))] = value
    data = bytes(spoiled[: round(len(spoiled) * keep)])
    try:
        read_shape(io.BytesIO(data))
        decode_image(data)
    except ImageError:
        return


@pytest.mark.parametrize("channels", [2, 4])
def test_other_channels_than_one_or_three_are_refused_in_words(channels: int) -> None:
    """Two channels became six, and of four the last was lost."""
    for side in (8, 12):
        with pytest.raises(ValueError, match=f"has {channels} channels: give 1 .grey. or 3"):
            cut_square(np.zeros((8, side, channels), np.uint8), StoredShape(8, 3))


@pytest.mark.parametrize("stored", [StoredShape(64, 3), StoredShape(64, 1), StoredShape(75, 3), StoredShape(75, 1)])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 7, 9])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
@pytest.mark.parametrize("size", [(100, 75), (75, 101), (75, 75), (9, 64)])
def test_the_fast_way_from_file_to_square_gives_the_same_pixels(
    size: tuple[int, int], mode: str, orientation: int | None, stored: StoredShape
) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)
    image = Image.fromarray(noise)
    image = Image.fromarray(noise[..., 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    exif = Image.Exif()
    if orientation is not None:
        exif[ExifTags.Base.Orientation] = orientation
    buffer = io.BytesIO()
    image.save(buffer, "TIFF" if mode == "CMYK" else "PNG", exif=exif)
    square = decode_square(buffer.getvalue(), stored)
    assert np.array_equal(to_pixels(square), cut_square(decode_image(buffer.getvalue()), stored))


@settings(max_examples=300, deadline=None)
@given(
    height=st.integers(66, 400),
    width=st.integers(66, 400),
    side_px=st.sampled_from([64, 32, 60]),
    border=st.integers(0, 20),
    mode=st.sampled_from(["RGB", "L"]),
    channels=st.sampled_from([1, 3]),
)
def test_the_centre_has_the_pixels_of_the_whole(
    height: int, width: int, side_px: int, border: int, mode: str, channels: Any
) -> None:
    noise = np.random.default_rng(height * width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    image, stored = Image.fromarray(noise).convert(mode), StoredShape(side_px, channels)
    centre_px = side_px - border
    start = border // 2
    whole_HWC = to_pixels(cut_image(image, stored))
    centre_HWC = to_pixels(cut_centre(image, stored, centre_px))
    assert np.array_equal(centre_HWC, whole_HWC[start : start + centre_px, start : start + centre_px])


def test_of_a_photograph_only_the_centre_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes, resize = [], Image.Image.resize

    def note(image: Image.Image, size: tuple[int, int], *others: Any) -> Image.Image:
        sizes.append(size)
        return resize(image, size, *others)

    monkeypatch.setattr(Image.Image, "resize", note)
    cut_centre(Image.new("RGB", (500, 375)), StoredShape(256, 3), 227)
    cut_centre(Image.new("RGB", (500, 375)), StoredShape(250, 3), 227)  # it would round
    assert sizes == [(227, 227), (250, 250)]
