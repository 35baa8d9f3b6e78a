"""Tells from the bytes of an image file that its decoding takes a small part of a millisecond, whatever they say.

Where hundreds of small images come in a second, a thread of its own for each costs more than the decoding. But who
decodes an image in an event loop must know before that it is small in every way. So this accepts only what most
programs write: PNGs with nothing but pixels, and baseline JPEGs without profiles and other metadata. All else is left
to threads, however small it may be. Torch-free.
"""

from __future__ import annotations

TINY_FILE_BYTES = 16 * 1024
TINY_PIXELS = 64 * 64

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
_PNG_CHUNKS = frozenset({b"PLTE", b"tRNS", b"gAMA", b"pHYs", b"sRGB", b"cHRM", b"IDAT", b"IEND"})
_MOST_CHUNKS = 12
_MOST_SEGMENTS = 16
_BASELINE, _SCAN = 0xC0, 0xDA
_JPEG_SEGMENTS = frozenset({0xC0, 0xC4, 0xDA, 0xDB, 0xDD, 0xE0})  # frame, codes, scan, quantisers, restarts, JFIF


def is_tiny(data: bytes) -> bool:
    """Whether an image file is of a kind that is decoded at once. A damaged file may seem to be."""
    if len(data) > TINY_FILE_BYTES:
        return False
    try:
        if data.startswith(_PNG_MAGIC):
            return _is_tiny_png(data)
        return data.startswith(b"\xff\xd8") and _is_tiny_jpeg(data)
    except IndexError:
        return False


def _is_tiny_png(data: bytes) -> bool:
    if data[12:16] != b"IHDR" or not _is_small(data[16:20], data[20:24]):
        return False
    position = len(_PNG_MAGIC) + 25  # after the header, which may come only once: a decoder believes the last one
    for _ in range(_MOST_CHUNKS):
        kind = data[position + 4 : position + 8]
        if kind not in _PNG_CHUNKS:
            return False
        if kind == b"IEND":
            return True
        position += 12 + int.from_bytes(data[position : position + 4])
    return False


def _is_tiny_jpeg(data: bytes) -> bool:
    position, is_small = 2, False
    for _ in range(_MOST_SEGMENTS):
        if data[position] != 0xFF or (kind := data[position + 1]) not in _JPEG_SEGMENTS:
            return False
        if kind == _SCAN:
            return is_small and data.count(b"\xff\xda", position) == 1
        if kind == _BASELINE:
            is_small = _is_small(data[position + 7 : position + 9], data[position + 5 : position + 7])
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    return False


def _is_small(width: bytes, height: bytes) -> bool:
    return 0 < int.from_bytes(width) * int.from_bytes(height) <= TINY_PIXELS
