"""Only what is small in every way is decoded at once."""

from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image, PngImagePlugin

from alexnet_core.data.images import decode_if_small
from alexnet_core.data.tiny import TINY_FILE_BYTES, is_tiny
from tests.hostile_images import encode

IMAGE = Image.effect_noise((64, 64), 80)


def _png_with(kind: bytes, data: bytes) -> bytes:
    file = encode(IMAGE.convert("RGB").resize((8, 8)), "PNG")
    chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    return file[:33] + chunk + file[33:]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_of_any_kind(mode: str) -> None:
    data = encode(
        IMAGE.convert("P" if mode == "P" else "I").convert(mode) if mode == "I;16" else IMAGE.convert(mode), "PNG"
    )
    assert is_tiny(data)
    assert decode_if_small(data) is not None


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_baseline_jpeg(mode: str) -> None:
    assert is_tiny(encode(IMAGE.convert(mode), "JPEG")) == (mode != "CMYK")  # which has a segment of Adobe's


def test_what_is_large_or_has_more_than_pixels_is_not() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 5000, zip=True)
    for data in (
        encode(IMAGE.resize((65, 64)), "PNG"),
        encode(IMAGE.resize((65, 64)), "JPEG"),
        encode(IMAGE, "PNG", pnginfo=info),
        encode(IMAGE, "JPEG", progressive=True),
        encode(IMAGE, "JPEG", exif=b"Exif\0\0II*\0"),
        encode(IMAGE, "JPEG", icc_profile=b"x" * 100),
        encode(IMAGE, "WEBP"),
        encode(IMAGE, "GIF"),
        encode(IMAGE, "TIFF"),
        _png_with(b"zTXt", b"a\0\0" + zlib.compress(b"x" * 1_000_000)),
        _png_with(b"eXIf", b"II*\0"),
        encode(IMAGE, "PNG")[:8] + b"\0" * TINY_FILE_BYTES,
        b"",
        b"\x89PNG\r\n\x1a\n",
        b"\xff\xd8",
        b"\xff\xd8\xff",
        b"\xff\xd8\xff\xe0\0\0" * 30,
    ):
        assert not is_tiny(data)
    assert is_tiny(_png_with(b"gAMA", b"\0\0\0\1"))


def test_a_jpeg_with_several_scans_is_not() -> None:
    data = encode(IMAGE, "JPEG")
    scan = data.index(b"\xff\xda")
    assert is_tiny(data)
    assert not is_tiny(data[:-2] + data[scan:])


def test_a_png_with_a_second_header_is_left_to_threads() -> None:
    """A decoder believes the last one, which may be large."""
    assert not is_tiny(_png_with(b"IHDR", struct.pack(">IIBBBBB", 1500, 1500, 8, 2, 0, 0, 0)))
