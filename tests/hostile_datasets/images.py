"""Files among images that are none, are cut off, or ask for gigabytes."""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Callable
from functools import partial

from PIL import Image

from tests import heic_images
from tests.alexnet_core.archive_files import png, zip_of
from tests.alexnet_core.data.test_pixels import write_gif, write_tiff
from tests.hostile_datasets.case import Case, good_members, one_odd, zip_beside
from tests.hostile_images import chunk, encode

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(%pipe%touch pwned) (w) file\n%%EOF\n"
UNSUPPORTED, TOO_LARGE, UNREADABLE = "image_format_unsupported", "image_too_large", "image_unreadable"


def picture(file_format: str, mode: str = "RGB") -> bytes:
    return encode(Image.radial_gradient("L").resize((64, 48)).convert(mode), file_format)


def huge_png() -> bytes:
    """9,400 pixels on each side in some 90 kB."""
    header = struct.pack(">IIBBBBB", 9400, 9400, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(9401 * 9400), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def jpeg_of_a_huge_size() -> bytes:
    data = bytearray(picture("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", 65_000, 65_000)
    return bytes(data)


def bmp_of_a_huge_size() -> bytes:
    data = bytearray(picture("BMP"))
    data[18:26] = struct.pack("<ii", 60_000, 60_000)
    return bytes(data)


def webp_of_a_huge_size() -> bytes:
    frame = struct.pack("<I", 0x2F | (16_383 << 8) & 0xFFFFFFFF)[:1] + struct.pack("<I", 16_383 | 16_383 << 14)
    body = b"WEBP" + b"VP8L" + struct.pack("<I", len(frame) + 1) + frame + b"\0"
    return b"RIFF" + struct.pack("<I", len(body)) + body


def with_huge_size(heif_or_avif: bytes) -> bytes:
    """An image whose every size (`ispe`) says 20,000 pixels on each side."""
    return re.sub(rb"(?s)(ispe\0\0\0\0).{8}", rb"\1" + struct.pack(">II", 20_000, 20_000), heif_or_avif)


def png_of_a_long_text() -> bytes:
    small = picture("PNG")
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64 << 20), 9))
    return small[:33] + text + small[33:]


def gif_then_html() -> bytes:
    return picture("GIF", "P") + b"<script>alert(1)</script>"


def with_comment() -> bytes:
    return encode(Image.open(io.BytesIO(png(5))), "JPEG", comment=b"<script>alert(1)</script>")


def cut(build: Callable[[], bytes], part: float = 0.6) -> Callable[[], bytes]:
    return lambda: build()[: int(len(build()) * part)]


OTHER_FILES = {
    "EPS named as JPEG": one_odd(lambda: EPS, UNSUPPORTED),
    "PSD named as JPEG": one_odd(
        lambda: b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 10, 10, 8, 3) + bytes(314), UNSUPPORTED
    ),
    "PDF named as JPEG": one_odd(lambda: encode(Image.new("RGB", (8, 8)), "PDF"), UNSUPPORTED),
    "ICNS named as JPEG": one_odd(lambda: encode(Image.new("RGBA", (16, 16)), "ICNS"), UNSUPPORTED),
    "JPEG 2000": one_odd(lambda: encode(Image.new("RGB", (8, 8)), "JPEG2000"), UNSUPPORTED),
    "TGA": one_odd(lambda: encode(Image.new("RGB", (8, 8)), "TGA"), UNSUPPORTED),
    "SVG": one_odd(lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", UNSUPPORTED),
    "HTML named as PNG": one_odd(lambda: b"<html><script>alert(1)</script></html>", UNSUPPORTED, "a/odd.png"),
    "a zip named as PNG": one_odd(lambda: zip_of({"x": b"y"}), UNSUPPORTED, "a/odd.png"),
    "an empty image": one_odd(lambda: b"", UNSUPPORTED),
    "a program named as PNG": one_odd(lambda: b"\x7fELF" + bytes(500), UNSUPPORTED, "a/odd.png"),
}  # fmt: skip

BOMBS = {
    "a PNG of 88 million pixels": one_odd(huge_png, TOO_LARGE),
    "a PNG with 64 MB of text in 64 kB": one_odd(png_of_a_long_text, UNREADABLE),
    "a JPEG of 4,000 million pixels": one_odd(jpeg_of_a_huge_size, TOO_LARGE),
    "a BMP of 3,600 million pixels": one_odd(bmp_of_a_huge_size, TOO_LARGE),
    "a WebP of 268 million pixels": one_odd(webp_of_a_huge_size, TOO_LARGE),
    "a GIF with a canvas of 400 million pixels": one_odd(lambda: write_gif(20_000, 1), TOO_LARGE),
    "a GIF with a frame larger than its canvas": one_odd(lambda: write_gif(16, 20_000), TOO_LARGE),
    "a TIFF of 900 million pixels": one_odd(lambda: write_tiff(30_000, 30_000, b"\0"), TOO_LARGE),
    "a TIFF in one huge tile": one_odd(
        lambda: write_tiff(16, 16, bytes(256), (322, 4, 60_000), (323, 4, 60_000), (324, 4, 8), (325, 4, 9)), TOO_LARGE
    ),
    "a HEIC of 400 million pixels": one_odd(lambda: with_huge_size(heic_images.PLAIN), UNREADABLE),
    "an AVIF of 400 million pixels": one_odd(lambda: with_huge_size(picture("AVIF")), UNSUPPORTED),
}  # fmt: skip

CUT = {
    **{
        f"half of a {name}": one_odd(cut(partial(picture, name)), code)
        for name, code in {
            "JPEG": UNREADABLE, "PNG": UNREADABLE, "WEBP": UNREADABLE, "BMP": UNREADABLE, "TIFF": UNREADABLE,
            "AVIF": UNSUPPORTED,
        }.items()
    },
    "half of a GIF": one_odd(cut(lambda: picture("GIF", "P")), UNREADABLE),
    "half of a HEIC": one_odd(cut(lambda: heic_images.PLAIN), UNSUPPORTED),
    "a PNG without pixels": one_odd(lambda: picture("PNG").replace(b"IDAT", b"IDAX"), UNSUPPORTED),
    "two cut ones of forty-two": Case(
        lambda: zip_of(good_members() | {f"a/cut{number}.png": png(900 + number)[:150] for number in range(2)}),
        rejected={f"a/cut{number}.png": UNREADABLE for number in range(2)},
    ),
    "a twentieth and one more that are cut": Case(
        lambda: zip_of(good_members() | {f"a/cut{number}.png": png(900 + number)[:150] for number in range(3)}),
        "too_many_rejected",
    ),
}  # fmt: skip

POLYGLOTS = {
    "a picture that is a zip, too": Case(
        lambda: zip_beside("a/gifar.png", png(900) + zip_of({"evil.txt": b"evil" * 99})), num_images=41
    ),
    "a picture with a script behind it": Case(lambda: zip_beside("a/script.gif", gif_then_html()), num_images=41),
    "a picture with a script in a comment": Case(lambda: zip_beside("a/script.jpg", with_comment()), num_images=41),
    "a JPEG named as text": Case(lambda: zip_beside("a/odd.txt", with_comment()), num_images=41),
    "an animation of two frames": Case(lambda: zip_beside("a/film.gif", encode(
        Image.open(io.BytesIO(png(6))), "GIF", save_all=True, append_images=[Image.open(io.BytesIO(png(7)))]
    )), num_images=41),
}  # fmt: skip

IMAGES = OTHER_FILES | BOMBS | CUT | POLYGLOTS
