"""Every way to store a picture gives the pixels that the documented rule says, bit for bit where nothing is lost.

The expected pixels are worked out here by hand, from the picture and the rule, and not by the decoder.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.data.decoder_process import DecoderProcess
from alexnet_core.data.image_readers import FileImages
from alexnet_core.data.images import decode_if_small, decode_image
from alexnet_core.data.squares import StoredShape, cut_middle, cut_square, read_shape, to_pixels
from alexnet_core.errors import ImageError, ImageTooLarge, ImageUnreadable
from tests import heic_images
from tests.hostile_images import chunk, encode

Pixels = NDArray[np.uint8]

RGB: Pixels = np.random.default_rng(1).integers(0, 256, (14, 18, 3)).astype(np.uint8)
GREY: Pixels = RGB[..., :1]
ALPHA: Pixels = np.random.default_rng(2).integers(0, 256, (14, 18, 1)).astype(np.uint8)
WORDS: NDArray[np.uint16] = np.random.default_rng(3).integers(0, 65536, (14, 18)).astype(np.uint16)


def as_array(pixels: Pixels | Image.Image) -> Pixels:
    return to_pixels(pixels) if isinstance(pixels, Image.Image) else pixels


def on_white(pixels: Pixels, alpha: Pixels) -> Pixels:
    """In fractions, rounded."""
    part = alpha.astype(np.float64) / 255
    return np.rint(pixels * part + 255 * (1 - part)).astype(np.uint8)


def image(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def palette_image() -> tuple[Image.Image, Pixels]:
    """Of 16 colours, and its pixels."""
    colours = np.random.default_rng(4).integers(0, 256, (16, 3)).astype(np.uint8)
    indices = np.random.default_rng(5).integers(0, 16, (14, 18)).astype(np.uint8)
    indices[0, 0] = 3
    picture = Image.frombytes("P", (18, 14), indices.tobytes())
    picture.putpalette(colours.tobytes())
    return picture, colours[indices]


def with_a_transparent_colour(pixels: Pixels, colour: tuple[int, ...]) -> Pixels:
    return np.where((pixels == colour).all(axis=2, keepdims=True), 255, pixels).astype(np.uint8)


def save(picture: Image.Image, file_format: str, **options: Any) -> Callable[[], bytes]:
    return lambda: encode(picture, file_format, **options)


def png_of_16_bit_colour() -> tuple[bytes, Pixels]:
    """Pillow does not write it. It keeps the upper byte of each value, as libpng's `strip 16` does."""
    wide = np.random.default_rng(6).integers(0, 65536, (14, 18, 3)).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", 18, 14, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return data, (wide >> 8).astype(np.uint8)


PALETTE, OF_PALETTE = palette_image()
BITS: Pixels = np.where(GREY > 127, 255, 0).astype(np.uint8)
RGBA = np.dstack([RGB, ALPHA])
CMYK: Pixels = np.random.default_rng(7).integers(0, 256, (14, 18, 4)).astype(np.uint8)
BLACK = 255 - CMYK[..., 3:].astype(np.int64)
OF_CMYK: Pixels = (BLACK - np.rint(CMYK[..., :3] * BLACK / 255)).astype(np.uint8)
FRAMES = [Image.new("RGB", (18, 14), colour) for colour in ("red", "blue")]
RED: Pixels = np.full((14, 18, 3), (255, 0, 0), np.uint8)

GOLDEN: dict[str, tuple[Callable[[], bytes], Pixels]] = {
    "png": (save(image(RGB), "PNG"), RGB),
    "png grey": (save(image(GREY), "PNG"), GREY),
    "png 1 bit": (save(image(BITS).convert("1"), "PNG"), BITS),
    "png 16 bit grey": (save(Image.fromarray(WORDS), "PNG"), np.rint(WORDS / 257).astype(np.uint8)[..., None]),
    "png 16 bit colour": (lambda: png_of_16_bit_colour()[0], png_of_16_bit_colour()[1]),
    "png alpha": (save(image(RGBA), "PNG"), on_white(RGB, ALPHA)),
    "png grey and alpha": (save(Image.merge("LA", [image(GREY), image(ALPHA)]),
                                "PNG"), on_white(GREY, ALPHA)),
    "png palette": (save(PALETTE, "PNG"), OF_PALETTE),
    "png palette with a transparent colour": (
        save(PALETTE, "PNG", transparency=3),
        with_a_transparent_colour(OF_PALETTE, tuple(OF_PALETTE[0, 0])),
    ),
    "png optimised": (lambda: encode(image(RGB), "PNG", optimize=True), RGB),
    "bmp": (save(image(RGB), "BMP"), RGB),
    "bmp grey": (save(image(GREY), "BMP"), GREY),
    "bmp 1 bit": (save(image(BITS).convert("1"), "BMP"), BITS),
    "bmp palette": (save(PALETTE, "BMP"), OF_PALETTE),
    "gif": (save(PALETTE, "GIF"), OF_PALETTE),
    "gif with a transparent colour": (
        save(PALETTE, "GIF", transparency=3),
        with_a_transparent_colour(OF_PALETTE, tuple(OF_PALETTE[0, 0])),
    ),
    "gif animated": (save(FRAMES[0], "GIF", save_all=True, append_images=FRAMES[1:]), RED),
    "png animated": (save(FRAMES[0], "PNG", save_all=True, append_images=FRAMES[1:]), RED),
    "webp animated": (save(FRAMES[0], "WEBP", save_all=True, append_images=FRAMES[1:], lossless=True), RED),
    "tiff of several pages": (save(FRAMES[0], "TIFF", save_all=True, append_images=FRAMES[1:]), RED),
    "webp": (save(image(RGB), "WEBP", lossless=True), RGB),
    "webp alpha": (save(image(RGBA), "WEBP", lossless=True, exact=True), on_white(RGB, ALPHA)),
    "tiff": (save(image(RGB), "TIFF"), RGB),
    "tiff lzw": (save(image(RGB), "TIFF", compression="tiff_lzw"), RGB),
    "tiff deflate": (save(image(RGB), "TIFF", compression="tiff_adobe_deflate"), RGB),
    "tiff packbits": (save(image(RGB), "TIFF", compression="packbits"), RGB),
    "tiff grey": (save(image(GREY), "TIFF"), GREY),
    "tiff fax": (save(image(BITS).convert("1"), "TIFF", compression="group4"), BITS),
    "tiff alpha": (save(image(RGBA), "TIFF"), on_white(RGB, ALPHA)),
    "tiff palette": (save(PALETTE, "TIFF"), OF_PALETTE),
    "tiff cmyk": (save(Image.frombytes("CMYK", (18, 14), CMYK.tobytes()), "TIFF"), OF_CMYK),
    "tiff 16 bit": (save(Image.fromarray(WORDS), "TIFF"), np.rint(WORDS / 257).astype(np.uint8)[..., None]),
}  # fmt: skip


@pytest.mark.parametrize("name", GOLDEN)
def test_a_picture_has_the_pixels_that_the_rule_says(name: str) -> None:
    make, expected = GOLDEN[name]
    assert np.array_equal(decode_image(make()), expected)


@pytest.mark.parametrize("name", GOLDEN)
def test_intake_and_both_ways_of_prediction_see_the_pixels_of_the_same_picture_as_png(name: str) -> None:
    make, expected = GOLDEN[name]
    data, plain = make(), encode(image(expected), "PNG")
    stored = StoredShape(12, 3)
    taken = FileImages(lambda path: io.BytesIO({"a": data, "b": plain}[path])).read_square("a", stored)
    assert np.array_equal(to_pixels(taken), cut_square(decode_image(plain), stored))
    small = decode_if_small(data)
    assert small is None or np.array_equal(as_array(small), decode_image(plain))
    assert (small is None) == name.startswith("tiff")


@pytest.fixture(scope="module")
def process() -> Any:
    process = DecoderProcess(max_pixels=1_000_000)
    yield process
    process.close()


@pytest.mark.parametrize("name", GOLDEN)
def test_the_process_for_large_images_sees_the_same_pixels(name: str, process: DecoderProcess) -> None:
    make, expected = GOLDEN[name]
    assert np.array_equal(process.decode(make()), cut_middle(expected))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
def test_every_orientation_of_exif_is_upright(orientation: int, file_format: str) -> None:
    picture: Pixels = np.zeros((32, 48, 3), np.uint8)
    picture[:16, :24], picture[16:, :24], picture[:, 24:] = (30, 200, 30), (220, 30, 30), (30, 30, 220)
    turned = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.transpose(1, 0, 2),
        6: np.rot90(picture, -1),
        7: picture[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(picture),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, dict[str, Any]] = {
        "WEBP": {"lossless": True},
        "JPEG": {"quality": 100, "subsampling": 0},
        "AVIF": {"quality": 100, "subsampling": "4:4:4"},
    }
    found = decode_image(encode(Image.fromarray(picture), file_format, exif=exif, **options.get(file_format, {})))
    assert found.shape == turned.shape
    assert np.abs(found.astype(int) - turned).max() <= (0 if file_format in {"PNG", "TIFF", "WEBP"} else 4)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("CMYK", 3)])
def test_a_jpeg_keeps_its_colours_but_for_the_loss_of_its_format(mode: str, channels: int) -> None:
    smooth = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    data = encode(smooth.convert(mode), "JPEG", quality=100, subsampling=0)
    found = decode_image(data)
    assert found.shape == (30, 40, channels)
    assert np.abs(found.astype(int) - np.asarray(smooth)[..., :channels]).max() <= 3


def middles(pixels: Pixels) -> list[tuple[int, ...]]:
    """The middle of each quarter: above left, below left, above right, below right."""
    height, width, _ = pixels.shape
    return [tuple(map(int, pixels[y, x])) for x in (width // 4, 3 * width // 4) for y in (height // 4, 3 * height // 4)]


def assert_near(found: list[tuple[int, ...]], *expected: tuple[int, ...]) -> None:
    assert np.abs(np.array(found) - np.array(expected)).max() <= 12, found


def test_heic_is_read_in_colour_grey_and_with_alpha() -> None:
    green, red, blue = heic_images.GREEN, heic_images.RED, heic_images.BLUE
    assert_near(middles(decode_image(heic_images.PLAIN)), green, red, blue, blue)
    assert_near(middles(decode_image(heic_images.ALPHA)), green, (255, 255, 255), blue, (255, 255, 255))
    grey = decode_image(heic_images.GREY)
    assert grey.shape == (32, 48, 1)
    assert_near(middles(grey), (30,), (220,), (30,), (30,))


def test_a_heic_that_lies_on_its_side_is_turned_once() -> None:
    upright = decode_image(heic_images.TURNED)
    assert upright.shape == (48, 32, 3)
    assert_near(middles(upright), heic_images.RED, heic_images.BLUE, heic_images.GREEN, heic_images.BLUE)
    shape = read_shape(io.BytesIO(heic_images.TURNED))
    assert (shape.width, shape.height, shape.format, shape.mode) == (32, 48, "HEIF", "RGB")


def test_avif_is_read_in_colour_grey_with_alpha_and_animated() -> None:
    flat = np.full((16, 16, 3), (200, 60, 20), np.uint8)
    assert_near([tuple(decode_image(encode(Image.fromarray(flat), "AVIF"))[8, 8])], (200, 60, 20))
    transparent = np.dstack([flat, np.zeros((16, 16), np.uint8)])
    assert_near([tuple(decode_image(encode(Image.fromarray(transparent), "AVIF"))[8, 8])], (255, 255, 255))
    film = encode(FRAMES[0], "AVIF", save_all=True, append_images=FRAMES[1:])
    assert_near([tuple(decode_image(film)[7, 9])], (255, 0, 0))


@pytest.mark.parametrize("data", [heic_images.PLAIN, encode(FRAMES[0], "AVIF")], ids=["heic", "avif"])
def test_heic_and_avif_are_decoded_in_a_process_and_cut_ones_are_refused(data: bytes) -> None:
    assert decode_if_small(data) is None
    files = {"whole": data, "cut": data[: len(data) * 3 // 4]}
    with FileImages(lambda path: io.BytesIO(files[path])) as images:
        middle_HWC = cut_middle(decode_image(data))
        whole = images.read_square("whole", StoredShape(len(middle_HWC), 3))
        assert np.array_equal(to_pixels(whole), middle_HWC)
        [process] = images._processes
        assert process.pid is not None
        with pytest.raises(ImageError):
            images.read_square("cut", StoredShape(12, 3))
    assert process.pid is None
    for end in range(0, len(data), 7):
        with pytest.raises(ImageError):
            decode_image(data[:end])


def test_a_heic_of_too_many_pixels_is_refused_by_its_header() -> None:
    for read in (lambda: decode_image(heic_images.PLAIN, max_pixels=100),
                 lambda: read_shape(io.BytesIO(heic_images.PLAIN), max_pixels=100)):  # fmt: skip
        with pytest.raises(ImageTooLarge):
            read()


def test_an_avif_whose_frame_is_larger_than_it_says_ends_at_the_limit_of_its_process() -> None:
    """Its header says 16x16; its decoder takes some 370 MB for the frame where nothing limits it."""
    assert read_shape(io.BytesIO(heic_images.AVIF_OF_A_HUGE_FRAME)).width == 16
    process = DecoderProcess(max_pixels=100_000)
    try:
        with pytest.raises((ImageTooLarge, ImageUnreadable)):
            process.decode(heic_images.AVIF_OF_A_HUGE_FRAME)
        assert process.decode(encode(FRAMES[0], "AVIF")).shape == (14, 14, 3)
    finally:
        process.close()
