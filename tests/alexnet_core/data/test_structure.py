"""Files of millions of parts are refused before a decoder sees them; what cameras and programs write is taken."""

from __future__ import annotations

import contextlib
import io
import struct
import time

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from alexnet_core.data.images import decode_image
from alexnet_core.data.squares import read_shape
from alexnet_core.data.structure import (
    MAX_CHUNKS,
    MAX_EXTENSIONS,
    MAX_SEGMENTS,
    MAX_STRIPS,
    count_scans,
    require_few_parts,
    require_few_scans,
)
from alexnet_core.errors import ImageError, ImageTooLarge, ImageUnreadable
from tests.hostile_images import (
    REFUSED,
    Make,
    behind_header_of_png,
    behind_palette_of_gif,
    behind_start_of_jpeg,
    chunk,
    encode,
    made,
    segment,
    small,
)

GRADIENT = Image.linear_gradient("L").resize((640, 480)).convert("RGB")
NOISE = Image.effect_noise((640, 480), 90).convert("RGB")


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_a_file_of_too_many_parts_is_refused_in_words_at_once(make: Make) -> None:
    data = made(make)
    began = time.process_time()
    with pytest.raises(ImageError, match=REFUSED[make]):
        decode_image(data)
    assert time.process_time() - began < 1


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_the_first_look_at_a_dataset_costs_no_more(make: Make) -> None:
    data = made(make)
    began = time.process_time()
    try:
        read_shape(io.BytesIO(data))
    except ImageError as exc:
        assert "more than" in exc.message or "text chunks" in exc.message  # noqa: PT017 - it may be taken, too
    assert time.process_time() - began < 1


def exif_of_a_camera() -> Image.Exif:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0112] = "A maker", "A model", 6
    exif.get_ifd(0x8769)[0x927C] = bytes(40_000)  # its own notes
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.5)
    return exif


def jpeg_of_a_camera() -> bytes:
    """EXIF, a colour profile of two megabytes in 32 segments, XMP in parts, a comment, Photoshop's resources."""
    profile = np.random.default_rng(0).bytes(2_000_000)
    whole = encode(NOISE, "JPEG", exif=exif_of_a_camera(), icc_profile=profile, xmp=b"<x:xmpmeta/>" * 1000, comment="c")
    extended = b"".join(segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)) for _ in range(60))
    photoshop = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\x04\0\0\0\0\0\x04abcd" * 40)
    return whole[:2] + extended + photoshop + whole[2:]


def png_of_a_program() -> bytes:
    texts = PngImagePlugin.PngInfo()
    for number in range(200):
        texts.add_text(f"key{number}", "value " * 50, zip=number % 2 == 0)
    texts.add_itxt("XML:com.adobe.xmp", "<x:xmpmeta/>" * 1000)
    return encode(NOISE, "PNG", pnginfo=texts, exif=exif_of_a_camera(), icc_profile=bytes(500_000), dpi=(300, 300))


def png_in_small_pieces() -> bytes:
    whole = encode(NOISE, "PNG")
    at = whole.index(b"IDAT") - 4
    size = int.from_bytes(whole[at : at + 4], "big")
    packed = b""
    position = at
    while whole[position + 4 : position + 8] == b"IDAT":
        size = int.from_bytes(whole[position : position + 4], "big")
        packed += whole[position + 8 : position + 8 + size]
        position += 12 + size
    pieces = b"".join(chunk(b"IDAT", packed[start : start + 512]) for start in range(0, len(packed), 512))
    return whole[:at] + pieces + whole[position:]


def animated(file_format: str, **options: object) -> bytes:
    frames = [Image.effect_noise((200, 100), 20 + number).convert("RGB") for number in range(50)]
    return encode(frames[0], file_format, save_all=True, append_images=frames[1:], duration=20, **options)


def gif_of_a_program() -> bytes:
    xmp = b"!\xff\x0bXMP DataXMP" + b"".join(b"\xff" + b"x" * 255 for _ in range(2_000)) + b"\0"
    return behind_palette_of_gif(b"!\xfe\x05hello\0" * 20 + xmp)


def tiff_of_a_program() -> bytes:
    tags = ImageFileDirectory_v2()
    tags[700], tags[34377] = b"<x:xmpmeta/>" * 1000, bytes(300_000)
    profile = bytes(500_000)
    return encode(NOISE.resize((2000, 3000)), "TIFF", compression="tiff_lzw", tiffinfo=tags, icc_profile=profile)


ORDINARY: dict[str, tuple[bytes, tuple[int, int]]] = {
    "a camera's JPEG": (jpeg_of_a_camera(), (640, 480)),
    "a progressive JPEG": (encode(NOISE, "JPEG", progressive=True, quality=95), (480, 640)),
    "a JPEG of two pictures": (encode(NOISE, "MPO", save_all=True, append_images=[GRADIENT]), (480, 640)),
    "a JPEG with restart markers": (encode(NOISE, "JPEG", restart_marker_blocks=1), (480, 640)),
    "a CMYK JPEG": (encode(NOISE.convert("CMYK"), "JPEG"), (480, 640)),
    "a program's PNG": (png_of_a_program(), (640, 480)),
    "a PNG in small pieces": (png_in_small_pieces(), (480, 640)),
    "an animated PNG": (animated("PNG"), (100, 200)),
    "an animated GIF": (animated("GIF", loop=0, comment=b"made by hand"), (100, 200)),
    "a program's GIF": (gif_of_a_program(), (32, 32)),
    "an animated WebP": (animated("WEBP"), (100, 200)),
    "a WebP with EXIF": (encode(NOISE, "WEBP", exif=exif_of_a_camera(), icc_profile=bytes(9_999)), (640, 480)),
    "a TIFF of strips": (tiff_of_a_program(), (3000, 2000)),
    "a TIFF of a row a strip": (encode(NOISE, "TIFF", strip_size=1), (480, 640)),
    "a BMP of run lengths": (small("BMP"), (32, 32)),
}


@pytest.mark.parametrize("name", ORDINARY)
def test_what_cameras_and_programs_write_is_taken(name: str) -> None:
    data, shape = ORDINARY[name]
    assert decode_image(data).shape[:2] == shape
    seen = read_shape(io.BytesIO(data))
    assert {seen.width, seen.height} == set(shape)


def test_each_bound_is_the_last_count_that_is_taken() -> None:
    own = segments_of(small("JPEG"))
    assert was_taken(behind_start_of_jpeg(segment(0xFE, b"") * (MAX_SEGMENTS - own)))
    assert not was_taken(behind_start_of_jpeg(segment(0xFE, b"") * (MAX_SEGMENTS - own + 1)))
    own_chunks = 2  # IHDR, IEND
    assert was_taken(behind_header_of_png(chunk(b"teSt", b"") * (MAX_CHUNKS - own_chunks)))
    assert not was_taken(behind_header_of_png(chunk(b"teSt", b"") * (MAX_CHUNKS - own_chunks + 1)))
    assert was_taken(behind_palette_of_gif(b"!\xfe\x01x\0" * MAX_EXTENSIONS))
    assert not was_taken(behind_palette_of_gif(b"!\xfe\x01x\0" * (MAX_EXTENSIONS + 1)))
    assert was_taken(tiff_of(MAX_STRIPS))
    assert not was_taken(tiff_of(MAX_STRIPS + 1))


def segments_of(jpeg: bytes) -> int:
    """Those before the pixels, the scan's own included."""
    position, count = 2, 0
    while True:
        count += 1
        if jpeg[position + 1] == 0xDA:
            return count
        position += 2 + int.from_bytes(jpeg[position + 2 : position + 4], "big")


def was_taken(data: bytes) -> bool:
    try:
        require_few_parts(data)
    except ImageTooLarge:
        return False
    return True


def tiff_of(strips: int) -> bytes:
    tags = [(256, 3, 1, 1), (257, 4, 1, strips), (273, 4, strips, 8), (278, 3, 1, 1), (279, 4, strips, 8)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + b"\0" * 4


def test_scans_count_by_the_pixels_that_they_cross() -> None:
    whole = encode(Image.new("L", (64, 64), 128), "JPEG", progressive=True)
    scans = count_scans(whole)
    assert scans > 3
    require_few_scans(whole, 500_000_000 // scans)
    with pytest.raises(ImageTooLarge, match=f"in {scans} scans"):
        require_few_scans(whole, 500_000_000 // scans + 1)
    require_few_scans(b"no JPEG", 10**12)


@pytest.mark.parametrize("name", ORDINARY)
def test_a_file_that_is_cut_off_anywhere_raises_nothing_of_its_own(name: str) -> None:
    data, _ = ORDINARY[name]
    for end in {*range(40), *np.random.default_rng(0).integers(0, min(len(data), 70_000), 50).tolist()}:
        with contextlib.suppress(ImageUnreadable):  # a TIFF whose tags can't be told any more
            require_few_parts(data[:end])


def test_noise_behind_every_signature_raises_nothing_of_its_own() -> None:
    draw = np.random.default_rng(0)
    for signature in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBP", b"BM", b"II*\0", b"MM\0+"):
        for _ in range(200):
            data = signature + draw.bytes(int(draw.integers(200)))
            with contextlib.suppress(ImageError):
                require_few_parts(data)
