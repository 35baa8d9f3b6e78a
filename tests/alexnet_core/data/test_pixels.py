"""Image files, packs and the input transform, from bytes to the network's input."""

from __future__ import annotations

import gzip
import io
import resource
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from alexnet_core.data.images import decode_image
from alexnet_core.data.pack import Pack, open_pack
from alexnet_core.data.published.builtin import prepare
from alexnet_core.data.published.idx import read_idx
from alexnet_core.data.squares import read_shape
from alexnet_core.errors import (
    DatasetChanged,
    DatasetUnavailable,
    ImageFormatUnsupported,
    ImageTooLarge,
    ImageUnreadable,
)
from alexnet_core.network.preprocess import Preprocessing


def encode(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return prepare("digits", source_dir=None, target_dir=tmp_path_factory.mktemp("packs") / "digits")


def test_exif_turns_the_image_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode_image(encode(Image.new("RGB", (4, 2), "red"), "JPEG", exif=exif))
    assert pixels.shape == (4, 2, 3)


def test_sixteen_bits_are_divided_by_257() -> None:
    words = np.array([[0, 257, 65535]], dtype=np.uint16)
    assert decode_image(encode(Image.fromarray(words)))[..., 0].tolist() == [[0, 1, 255]]


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (255, 0, 0, 0), [255, 255, 255]),
        ("RGBA", (255, 0, 0, 255), [255, 0, 0]),
        ("LA", (0, 0), [255]),
        ("LA", (7, 255), [7]),
        ("1", 1, [255]),
        ("L", 9, [9]),
    ],
)
def test_transparency_lies_on_white_and_grey_stays_grey(
    mode: str, colour: int | tuple[int, ...], expected: list[int]
) -> None:
    assert decode_image(encode(Image.new(mode, (1, 1), colour)))[0, 0].tolist() == expected


def test_a_palette_with_a_transparent_colour_lies_on_white() -> None:
    image = Image.new("P", (1, 1), 0)
    image.putpalette([10, 20, 30])
    assert decode_image(encode(image))[0, 0].tolist() == [10, 20, 30]
    assert decode_image(encode(image, transparency=0))[0, 0].tolist() == [255, 255, 255]


def test_cmyk_becomes_rgb_and_of_an_animation_the_first_frame_counts() -> None:
    assert decode_image(encode(Image.new("CMYK", (2, 2)), "JPEG"))[0, 0].tolist() == [255, 255, 255]
    frames = [Image.new("RGB", (2, 2), colour) for colour in ("red", "blue")]
    animation = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_image(animation)[0, 0].tolist() == [255, 0, 0]


def test_what_is_no_whole_image_is_refused() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = encode(Image.fromarray(noise))
    with pytest.raises(ImageUnreadable):
        decode_image(whole[: len(whole) // 2])
    with pytest.raises(ImageFormatUnsupported):
        decode_image(b"not an image at all")
    with pytest.raises((ImageUnreadable, ImageFormatUnsupported)):
        decode_image(b"")


def test_a_huge_image_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    small = encode(Image.new("RGB", (1, 1)))
    chunk = b"IHDR" + header
    huge = small[:8] + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + small[33:]
    with pytest.raises(ImageTooLarge):
        decode_image(huge)
    with pytest.raises(ImageTooLarge):
        decode_image(encode(Image.new("L", (11, 10))), max_pixels=100)


def write_gif(canvas: int, frame: int) -> bytes:
    """A frame of one colour that the canvas is cleared after, in some forty bytes."""
    control = b"\x21\xf9\x04\x08\0\0\0\0"
    picture = b"\x2c" + struct.pack("<HHHH", 0, 0, frame, frame) + b"\0\x02\x02\x4c\x01\0;"
    return b"GIF89a" + struct.pack("<HH", canvas, canvas) + b"\0\0\0" + control + picture


def write_tiff(
    width: int, height: int, data: bytes, *tags: tuple[int, int, int], twice: tuple[int, int, int] | None = None
) -> bytes:
    """Uncompressed grey, unless tags (number, type, value) say otherwise; one may be there a second time, before."""
    usual = [(256, 3, width), (257, 3, height), (258, 3, 8), (259, 3, 1), (262, 3, 1), (277, 3, 1)]
    merged = {number: (number, kind, 1, value) for number, kind, value in [*usual, *tags]}
    if 322 not in merged:
        merged |= {273: (273, 4, 1, 8), 278: (278, 3, 1, height), 279: (279, 4, 1, len(data))}
    data += b"\0" * (len(data) % 2)
    listed = sorted(merged.values()) if twice is None else sorted([*merged.values(), (twice[0], twice[1], 1, twice[2])])
    entries = b"".join(struct.pack("<HHII", *tag) for tag in listed)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(listed)) + entries + b"\0" * 4


@pytest.mark.parametrize("read", [decode_image, lambda data: read_shape(io.BytesIO(data))])
@pytest.mark.parametrize(("canvas", "frame"), [(20_000, 20_000), (16, 20_000), (20_000, 16)])
def test_a_gif_of_forty_bytes_takes_no_memory(read: Callable[[bytes], object], canvas: int, frame: int) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageTooLarge):
        read(write_gif(canvas, frame))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; 400 MB are asked for
    read(encode(Image.new("P", (16, 16)), "GIF"))


def test_a_tiff_of_few_pixels_in_one_huge_tile_is_refused() -> None:
    content = zlib.compress(bytes(6_000 * 6_000))
    tile = [(259, 3, 8), (322, 4, 6_000), (323, 4, 6_000), (324, 4, 8), (325, 4, len(content))]
    with pytest.raises(ImageTooLarge, match="tiles of 6000x6000"):
        decode_image(write_tiff(16, 16, content, *tile))
    with pytest.raises(ImageUnreadable, match="size of its tiles"):  # libtiff takes the first, Pillow the last
        decode_image(write_tiff(16, 16, content, *tile[:1], (322, 4, 9_000), *tile[2:], twice=(322, 4, 6_000)))
    for kind in (1, 5, 9, 16, 17):
        with pytest.raises(ImageUnreadable):
            decode_image(write_tiff(16, 16, content, *tile[:1], (322, kind, 6_000), *tile[2:]))
    content = zlib.compress(bytes(range(256)))
    tile = [(259, 3, 8), (322, 4, 16), (323, 4, 16), (324, 4, 8), (325, 4, len(content))]
    assert decode_image(write_tiff(16, 16, content, *tile)).ravel().tolist() == list(range(256))


def test_a_jpeg_that_crosses_its_pixels_again_and_again_is_refused() -> None:
    whole = encode(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    scans = [index for index in range(len(whole) - 1) if whole[index : index + 2] == b"\xff\xda"]
    last = whole[scans[-1] : -2]
    room = 100 - len(scans)
    assert decode_image(whole[:-2] + last * room + b"\xff\xd9").shape == (64, 64, 1)
    with pytest.raises(ImageTooLarge, match="more than 100 scans"):
        decode_image(whole[:-2] + last * (room + 1) + b"\xff\xd9")
    alone = b"\xff\x01" + last  # a marker without a length does not hide what comes behind it
    with pytest.raises(ImageTooLarge, match="more than 100 scans"):
        decode_image(whole[:-2] + alone * (room + 1) + b"\xff\xd9")
    film = b"\xff\xda" * 1000
    assert decode_image(whole + film).shape == (64, 64, 1), "what follows the image is not looked at"
    comment = b"\xff\xfe" + struct.pack(">H", 2 + len(film)) + film
    assert decode_image(whole[:2] + comment + whole[2:]).shape == (64, 64, 1), "nor what a segment holds"


def test_grey_above_eight_bits_keeps_its_brightness() -> None:
    words = struct.pack("<HH", 0, 65535)
    assert decode_image(write_tiff(2, 1, words, (258, 3, 16))).ravel().tolist() == [0, 255]
    assert decode_image(write_tiff(2, 1, words, (258, 3, 16), (262, 3, 0))).ravel().tolist() == [255, 0], "white is 0"
    assert decode_image(write_tiff(2, 1, b"\x00\x0f\xff", (258, 3, 12))).ravel().tolist() == [0, 255]
    png = encode(Image.fromarray(np.array([[65535, 256, 257]], dtype=np.uint16)))
    chunk = b"tRNS" + struct.pack(">H", 256)
    at = png.index(b"IDAT") - 4
    marked = png[:at] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png[at:]
    assert decode_image(marked).ravel().tolist() == [255, 255, 1], "the colour that stands for transparent is white"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0\0\x08\x03\0\0",
        b"\0\0\x08\x01\0\0\0\x05abc",
        b"\0\0\x08\x01\0\0\0\x01abc",
        b"\0\0\x08\x01\xff\xff\xff\xff",
        b"\0\0\x09\x01\0\0\0\x01a",
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_a_bad_idx_file_is_refused(tmp_path: Path, content: bytes, zipped: bool) -> None:
    path = tmp_path / ("labels.gz" if zipped else "labels")
    path.write_bytes(gzip.compress(content) if zipped else content)
    with pytest.raises(DatasetUnavailable):
        read_idx(path, dimensions=1)


def test_digits_are_split_by_class_and_no_image_is_on_both_sides(digits: Pack) -> None:
    assert [len(digits.list_indices(split)) for split in ("train", "validation", "test")] == [1295, 142, 360]
    sides = [{digits.images[i].tobytes() for i in digits.list_indices(split)} for split in ("train", "validation")]
    assert not sides[0] & sides[1]
    assert np.bincount(digits.labels[digits.list_indices("validation")]).min() >= 13


def test_a_changed_pack_is_noticed(tmp_path: Path) -> None:
    pack = prepare("digits", source_dir=None, target_dir=tmp_path / "digits")
    pack.verify()
    with (tmp_path / "digits" / "images.npy").open("r+b") as file:
        file.seek(5000)
        byte = file.read(1)
        file.seek(5000)
        file.write(bytes([byte[0] ^ 1]))
    with pytest.raises(DatasetChanged):
        open_pack(tmp_path / "digits").verify()


def test_preparing_twice_gives_the_same_pack(digits: Pack) -> None:
    assert prepare("digits", source_dir=None, target_dir=digits.path).digest == digits.digest


def test_a_missing_source_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable):
        open_pack(tmp_path / "nothing")


@pytest.mark.parametrize(("image_px", "channels"), [(8, 1), (16, 1), (24, 3), (28, 1)])
def test_an_image_has_the_same_bits_alone_in_a_batch_and_by_way_of_a_file(
    digits: Pack, image_px: int, channels: int
) -> None:
    transform = Preprocessing(image_px=image_px, channels=channels, mean=(78.0,) * channels, std=(96.0,) * channels)
    images = np.array(digits.images[:33])
    batch = transform.to_input(torch.from_numpy(images))
    assert batch.shape == (33, channels, image_px, image_px)
    for index in (0, 7, 32):
        alone = transform.to_input(torch.from_numpy(images[index : index + 1]))
        filed = decode_image(encode(Image.fromarray(images[index, :, :, 0])))
        assert torch.equal(alone[0], batch[index])
        assert torch.equal(transform.to_input(torch.from_numpy(filed)[None])[0], batch[index])


def test_the_transform_cuts_the_centre_and_survives_json() -> None:
    transform = Preprocessing(image_px=16, channels=1, mean=(0.0,), std=(1.0,))
    pixels = torch.randint(0, 256, (2, 40, 25, 3), dtype=torch.uint8)
    assert transform.to_input(pixels).shape == (2, 1, 16, 16)
    assert torch.equal(transform.to_input(pixels[:1])[0], transform.to_input(pixels)[0])
    assert Preprocessing.model_validate_json(transform.model_dump_json()) == transform


@pytest.mark.parametrize(("height", "width"), [(1, 3_000_000), (3_000_000, 1), (9, 400_000)])
def test_a_very_long_image_costs_no_more_than_its_middle_square(height: int, width: int) -> None:
    preprocessing = Preprocessing(image_px=24, resize_px=28, channels=1, mean=(0.0,), std=(1.0,))
    pixels = torch.zeros(1, height, width, 1, dtype=torch.uint8)
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    pixels[:, top : top + side, left : left + side] = 200
    assert preprocessing.resize(pixels).shape == (1, 1, 28, 28)
    torch.testing.assert_close(preprocessing.to_input(pixels), torch.full((1, 1, 24, 24), 200.0))
