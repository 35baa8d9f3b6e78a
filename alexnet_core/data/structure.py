"""Counts the parts of an image file before it is decoded, and refuses more than any program writes. Torch-free.

A decoder spends some microseconds on every segment of a JPEG, chunk of a PNG or WebP, block of a GIF and strip of a
TIFF, whatever is in it. Pillow does so with the interpreter's lock held, and keeps what it found. A part needs only
some bytes, so one file can have millions of them. The parts are counted here in the same way as Pillow goes through
them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from alexnet_core.errors import ImageTooLarge, ImageUnreadable

MAX_SEGMENTS = 2_000  #: of a JPEG before its pixels; a profile of 16 MB has 255
MAX_SCANS = 100  #: of a JPEG; encoders make about ten
MAX_SCANNED_PIXELS = 500_000_000  #: of a JPEG: every scan may cross all pixels
MAX_JUNK_BYTES = 65_536  #: between the parts of a JPEG or GIF
MAX_RESOURCES = 10_000  #: of Photoshop's, in a JPEG
MAX_CHUNKS = 2_000  #: of a PNG beside those that hold pixels
MAX_PIXEL_CHUNKS = 50_000  #: of a PNG: 20 MB in pieces of 400 bytes
MAX_RIFF_CHUNKS = 10_000  #: of a WebP, frames included
MAX_EXTENSIONS = 1_000  #: of a GIF before its first image
MAX_BLOCKS = 20_000  #: of a GIF's extensions: 5 MB where they are full
MAX_STRIPS = 50_000  #: of a TIFF, or tiles
MAX_VALUES = 200_000  #: of a TIFF's tag, if they are numbers; a palette of 16 bits has 196,608
MAX_TAGS = 4_096  #: of a TIFF
MAX_RUN_LENGTH_BYTES = 2_000_000  #: of a BMP with run lengths, which Pillow decodes in Python

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_TIFF_MAGICS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+", b"II\0*", b"MM*\0")
_START_OF_SCAN, _END_OF_IMAGE, _START_OF_IMAGE = 0xDA, 0xD9, 0xD8
_ALONE = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})  # markers of JPEG that Pillow takes to stand alone
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")  # no stuffed byte, no fill, none that stands alone
_FILL = re.compile(rb"\xff+")
_PIXEL_CHUNKS = (b"IDAT", b"fdAT", b"fcTL")
_TILE_WIDTH, _TILE_LENGTH = 322, 323  # tags of TIFF
_STRIPS = (273, 279, 324, 325)  # where strips and tiles are, and their sizes
_SHORT, _LONG = 3, 4  # types of TIFF
_OF_BYTES = (1, 2, 6, 7)  # types whose values Pillow keeps as bytes
_RUN_LENGTHS = (1, 2)  # compressions of BMP


class MoreNeeded(Exception):
    """The data ends before the pixels begin, so more must be read."""


def require_few_parts(data: bytes, *, whole: bool = True) -> None:
    """Refuse a file that consists of too many parts.

    Args:
        data: the file, or its begin.
        whole: whether it is all of it.

    Raises:
        ImageTooLarge: too many parts, or too large ones.
        ImageUnreadable: a TIFF whose tags can't be told.
        MoreNeeded: the begin of a file does not tell.
    """
    walk = _find_walk(data)
    if walk is None:
        return
    try:
        ended = walk(data)
    except (IndexError, OverflowError):
        ended = False
    if not ended and not whole:
        raise MoreNeeded


def require_few_scans(data: bytes, pixels: int) -> None:
    """Refuse a JPEG with many scans: each may cover all pixels, but costs the sender only some bytes.

    Args:
        data: a whole file; of any other format nothing is found in it.
        pixels: that the image has.

    Raises:
        ImageTooLarge: more than 100 scans, or more than 500 million pixels in all of them.
    """
    scans = count_scans(data)
    if scans > MAX_SCANS:
        raise ImageTooLarge(f"The image is a JPEG with more than {MAX_SCANS} scans. Save it again as a plain JPEG.")
    if scans * pixels > MAX_SCANNED_PIXELS:
        raise ImageTooLarge(
            f"The image is a JPEG of {pixels:,} pixels in {scans} scans. "
            "Save it again, as a plain one, or scale it down."
        )


def count_scans(data: bytes) -> int:
    """Count the scans of a JPEG's first image (ITU T.81, annex B). What follows its end, as in a film, is ignored."""
    if not is_jpeg(data):
        return 0
    num_scans = position = 0
    while (found := _MARKER.search(data, position)) is not None:
        marker, position = data[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            break
        if marker != _START_OF_IMAGE:  # every other one has a length, which counts itself
            num_scans += marker == _START_OF_SCAN
            position += int.from_bytes(data[position : position + 2], "big")
    return num_scans


def is_jpeg(data: bytes) -> bool:
    """Whether the data begins like a JPEG."""
    return data.startswith(b"\xff\xd8")


def is_tiff(data: bytes) -> bool:
    """Whether the data begins like a TIFF."""
    return data.startswith(_TIFF_MAGICS)


def is_heif_or_avif(data: bytes) -> bool:
    """Whether a file begins as HEIC and AVIF do.

    They are films of one frame, and the frame has a size of its own, which its decoder learns late. So only a process
    with a limit on its memory may decode them.
    """
    return data[4:8] == b"ftyp"


def has_run_lengths(data: bytes) -> bool:
    """Whether the file is a BMP with run-length encoded pixels."""
    return data.startswith(b"BM") and data[14] >= 40 and int.from_bytes(data[30:34], "little") in _RUN_LENGTHS


def find_tile(data: bytes) -> tuple[int, int]:
    """Return width and height of a TIFF's tiles, each of which is decoded as a whole; (0, 0) if it has none.

    If a tag is there twice or has an unusual type, Pillow and its decoder, libtiff, don't agree on its meaning. Such a
    file is damaged (TIFF 6.0, section 2).

    Raises:
        ImageUnreadable: the size can't be told.
    """
    if not is_tiff(data):
        return 0, 0
    sides: dict[int, int] = {}
    for number, kind, _, value in _read_tags(data):
        if number in (_TILE_WIDTH, _TILE_LENGTH):
            if number in sides or kind not in (_SHORT, _LONG):
                raise ImageUnreadable("The image is damaged (the size of its tiles is unknown). Send the whole file.")
            sides[number] = value
    return sides.get(_TILE_WIDTH, 0), sides.get(_TILE_LENGTH, 0)


Walk = Callable[[bytes], bool]


def _find_walk(data: bytes) -> Walk | None:
    """Return the function that counts a file's parts.

    That function returns whether it reached the pixels, or the end of what is read of them.
    """
    if is_jpeg(data):
        return _walk_jpeg
    if data.startswith(_PNG_MAGIC):
        return _walk_png
    if data.startswith((b"GIF87a", b"GIF89a")):
        return _walk_gif
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return _walk_webp
    if is_tiff(data):
        return _walk_tiff
    if data.startswith(b"BM"):
        return _walk_bmp
    return None


def _too_many(most: int, what: str) -> ImageTooLarge:
    return ImageTooLarge(f"The image has more than {most:,} {what}. Save it again with an image program.")


def _walk_jpeg(data: bytes) -> bool:
    position, segments, junk, resources = 2, 0, 0, 0
    while True:
        if data[position] != 0xFF:
            found = data.find(b"\xff", position)
            junk += (len(data) if found < 0 else found) - position
            position = len(data) if found < 0 else found
        elif fill := _FILL.match(data, position, position + MAX_JUNK_BYTES + 2):
            junk += fill.end() - position - 1
            position = fill.end() - 1
        if junk > MAX_JUNK_BYTES:
            raise _too_many(MAX_JUNK_BYTES, "bytes between its segments")
        marker = data[position + 1]
        start, position = position, position + 2
        if marker == 0:
            continue
        segments += 1
        if segments > MAX_SEGMENTS:
            raise _too_many(MAX_SEGMENTS, "segments before its pixels")
        if marker == _START_OF_SCAN:
            return True
        if marker not in _ALONE:
            position += max(2, data[position] << 8 | data[position + 1])
            if marker == 0xED:
                resources += data.count(b"8BIM", start, position)
                if resources > MAX_RESOURCES:
                    raise _too_many(MAX_RESOURCES, "Photoshop resources")


def _walk_png(data: bytes) -> bool:
    """Count all chunks, because Pillow also reads those after the pixels.

    It returns whether the data, the first part of a file, reaches the pixels.
    """
    position, others, of_pixels = len(_PNG_MAGIC), 0, 0
    while position + 8 <= len(data):
        kind = data[position + 4 : position + 8]
        if kind in _PIXEL_CHUNKS:
            of_pixels += 1
        else:
            others += 1
        if others > MAX_CHUNKS:
            raise _too_many(MAX_CHUNKS, "chunks")
        if of_pixels > MAX_PIXEL_CHUNKS:
            raise _too_many(MAX_PIXEL_CHUNKS, "chunks of pixels")
        if kind == b"IEND":
            break
        position += 12 + int.from_bytes(data[position : position + 4], "big")
    return of_pixels > 0


def _walk_webp(data: bytes) -> bool:
    position, chunks = 12, 0
    while position + 8 <= len(data):
        chunks += 1
        if chunks > MAX_RIFF_CHUNKS:
            raise _too_many(MAX_RIFF_CHUNKS, "chunks")
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        is_frame = data.startswith(b"ANMF", position)
        position += 8 + (16 if is_frame else size + size % 2)  # a frame's chunks stand behind a header of its own
    return False


def _walk_gif(data: bytes) -> bool:
    flags = data[10]
    position = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    extensions = blocks = junk = 0
    while True:
        kind = data[position]
        position += 1
        if kind in b",;":  # an image, or the end
            return True
        if kind != ord("!"):
            junk += 1
            if junk > MAX_JUNK_BYTES:
                raise _too_many(MAX_JUNK_BYTES, "bytes between its blocks")
            continue
        extensions += 1
        if extensions > MAX_EXTENSIONS:
            raise _too_many(MAX_EXTENSIONS, "extensions, as comments are")
        position += 1
        while (size := data[position]) > 0:
            position += 1 + size
            blocks += 1
            if blocks > MAX_BLOCKS:
                raise _too_many(MAX_BLOCKS, "blocks of comments and other extensions")
        position += 1


def _walk_tiff(data: bytes) -> bool:
    for number, kind, count, _ in _read_tags(data):
        if number in _STRIPS and count > MAX_STRIPS:
            raise _too_many(MAX_STRIPS, "strips or tiles")
        if kind not in _OF_BYTES and count > MAX_VALUES:
            raise _too_many(MAX_VALUES, "values in one tag")
    return False


def _walk_bmp(data: bytes) -> bool:
    if not has_run_lengths(data):
        return True
    if len(data) > MAX_RUN_LENGTH_BYTES:
        raise ImageTooLarge(
            f"The image is a BMP of more than {MAX_RUN_LENGTH_BYTES:,} bytes in run lengths. Save it as a PNG."
        )
    return False


def _read_tags(data: bytes) -> list[tuple[int, int, int, int]]:
    """Yield number, type, count and value of each tag of a TIFF's first image.

    If a value does not fit into the tag, its place in the file is given instead.
    """
    order: Literal["little", "big"] = "little" if data.startswith(b"II") else "big"
    is_big_tiff = b"\x2b" in data[2:4]
    place, count_bytes, entry_bytes = (data[8:16], 8, 20) if is_big_tiff else (data[4:8], 2, 12)
    start = int.from_bytes(place, order)
    num_tags = int.from_bytes(data[start : start + count_bytes], order)
    if num_tags > MAX_TAGS:
        raise ImageUnreadable(f"The image is damaged (it has {num_tags} tags). Send the whole file.")
    tags = []
    for at in range(start + count_bytes, start + count_bytes + num_tags * entry_bytes, entry_bytes):
        number, kind = (int.from_bytes(data[here : here + 2], order) for here in (at, at + 2))
        width = entry_bytes // 2 - 2
        value = at + 4 + width
        count = int.from_bytes(data[at + 4 : value], order)
        tags.append((number, kind, count, int.from_bytes(data[value : value + (2 if kind == _SHORT else 4)], order)))
    return tags
