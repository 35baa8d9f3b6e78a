"""Image files of 20 MB at most that cost gigabytes or minutes to decode, and what each is told; made when asked for."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

from PIL import Image

SIDE_PX = 5000  #: 25 million pixels: the largest image that is taken
FILE_BYTES = 19_000_000


def encode(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """Of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def segment(marker: int, content: bytes) -> bytes:
    """Of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def small(file_format: str) -> bytes:
    return encode(Image.new("P" if file_format == "GIF" else "RGB", (32, 32)), file_format)


def gradient(mode: str) -> Image.Image:
    return Image.radial_gradient("L").resize((SIDE_PX, SIDE_PX)).convert(mode)


def behind_start_of_jpeg(content: bytes) -> bytes:
    return small("JPEG")[:2] + content + small("JPEG")[2:]


def behind_header_of_png(content: bytes) -> bytes:
    return small("PNG")[:33] + content + small("PNG")[33:]


def behind_palette_of_gif(content: bytes) -> bytes:
    gif = small("GIF")
    start = 13 + (3 << (gif[10] & 7) + 1 if gif[10] & 0x80 else 0)
    return gif[:start] + content + gif[start:]


def jpeg_of_segments() -> bytes:
    return behind_start_of_jpeg(segment(0xFE, b"") * (FILE_BYTES // 4))


def jpeg_of_fill_bytes() -> bytes:
    return behind_start_of_jpeg(b"\xff" * FILE_BYTES)


def jpeg_of_junk() -> bytes:
    return behind_start_of_jpeg(bytes(FILE_BYTES))


def jpeg_of_photoshop_resources() -> bytes:
    one = segment(0xED, b"Photoshop 3.0\0" + b"8BIM\x04\0\0\0\0\0\0\0" * 5400)
    return behind_start_of_jpeg(one * (FILE_BYTES // len(one)))


def jpeg_of_scans() -> bytes:
    whole = encode(Image.new("L", (SIDE_PX, SIDE_PX), 128), "JPEG", progressive=True)
    scans = [index for index in range(len(whole) - 1) if whole[index : index + 2] == b"\xff\xda"]
    return whole[:-2] + whole[scans[-1] : -2] * (100 - len(scans)) + whole[-2:]


def png_of_chunks() -> bytes:
    return behind_header_of_png(chunk(b"teSt", b"") * (FILE_BYTES // 12))


def png_of_chunks_at_its_end() -> bytes:
    return small("PNG")[:-12] + chunk(b"teSt", b"") * (FILE_BYTES // 12) + small("PNG")[-12:]


def png_of_empty_pixel_chunks() -> bytes:
    return behind_header_of_png(chunk(b"IDAT", b"") * (FILE_BYTES // 12))


def png_of_texts() -> bytes:
    return behind_header_of_png(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000))) * 60)


def gif_of_comments() -> bytes:
    return behind_palette_of_gif(b"!\xfe\x01x\0" * (FILE_BYTES // 5))


def gif_of_blocks() -> bytes:
    return behind_palette_of_gif(b"!\xfe" + b"\x01x" * (FILE_BYTES // 2) + b"\0")


def tiff_of_strips() -> bytes:
    count = FILE_BYTES // 8
    data = struct.pack("<I", 8) * count + struct.pack("<I", 1) * count
    tags = [(256, 3, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, count, 8)]
    tags += [(277, 3, 1, 1), (278, 3, 1, 1), (279, 4, count, 8 + 4 * count)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + struct.pack("<H", len(tags)) + entries + b"\0" * 4


def webp_of_chunks() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 1
    whole = encode(Image.new("RGB", (32, 32)), "WEBP", exif=exif) + b"abcd\0\0\0\0" * (FILE_BYTES // 8)
    return whole[:4] + struct.pack("<I", len(whole) - 8) + whole[8:]


def bmp_of_run_lengths() -> bytes:
    palette = b"".join(bytes((value, value, value, 0)) for value in range(256))
    runs = b"\x01\x05" * (FILE_BYTES // 2) + b"\0\x01"
    head = struct.pack("<IiiHHIIiiII", 40, SIDE_PX, SIDE_PX, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1078 + len(runs), 0, 0, 1078) + head + palette + runs


def png_of_sixteen_bits() -> bytes:
    row = b"\0" + b"\x10" * (8 * SIDE_PX)
    packer = zlib.compressobj(1)
    pixels = b"".join(packer.compress(row) for _ in range(SIDE_PX)) + packer.flush()
    header = struct.pack(">IIBBBBB", SIDE_PX, SIDE_PX, 16, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def webp_without_loss() -> bytes:
    image = Image.new("RGBA", (SIDE_PX, SIDE_PX), (9, 9, 9, 9))
    return encode(image, "WEBP", lossless=True, quality=0, method=0)


def jpeg_of_four_colours() -> bytes:
    return encode(gradient("CMYK"), "JPEG", progressive=True)


def tiff_in_one_strip() -> bytes:
    image = Image.new("RGBA", (SIDE_PX, SIDE_PX))
    return encode(image, "TIFF", compression="tiff_deflate", strip_size=10**9)


def gif_with_a_transparent_colour() -> bytes:
    return encode(Image.new("P", (SIDE_PX, SIDE_PX)), "GIF", transparency=0)


Make = Callable[[], bytes]

#: Refused, and the words that say why.
REFUSED: dict[Make, str] = {
    jpeg_of_segments: "more than 2,000 segments",
    jpeg_of_fill_bytes: "more than 65,536 bytes between its segments",
    jpeg_of_junk: "more than 65,536 bytes between its segments",
    jpeg_of_photoshop_resources: "more than 10,000 Photoshop resources",
    jpeg_of_scans: "pixels in 100 scans",
    png_of_chunks: "more than 2,000 chunks",
    png_of_chunks_at_its_end: "more than 2,000 chunks",
    png_of_empty_pixel_chunks: "more than 50,000 chunks of pixels",
    png_of_texts: "text chunks",
    gif_of_comments: "more than 1,000 extensions",
    gif_of_blocks: "more than 20,000 blocks",
    tiff_of_strips: "more than 50,000 strips",
    webp_of_chunks: "more than 10,000 chunks",
    bmp_of_run_lengths: "run lengths",
}


#: Taken: whole images of 25 million pixels, in the forms that cost most.
def avif_with_alpha() -> bytes:
    """Four channels, which take most."""
    return encode(Image.effect_noise((500, 500), 90).convert("RGBA").resize((SIDE_PX, SIDE_PX)), "AVIF", speed=10)


TAKEN: tuple[Make, ...] = (
    avif_with_alpha,
    webp_without_loss,
    png_of_sixteen_bits,
    jpeg_of_four_colours,
    tiff_in_one_strip,
    gif_with_a_transparent_colour,
)


@cache
def made(make: Make) -> bytes:
    """The file, made once."""
    data = make()
    assert len(data) < 20 * 1024 * 1024
    return data
