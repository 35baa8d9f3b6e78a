"""Reads a job's log, which its trainers write: one stream in the store for all attempts."""

from __future__ import annotations

from dataclasses import dataclass

from trainyard.errors import BeyondTheEnd
from trainyard.storage.interface import Storage

MAX_BYTES = 4 * 2**20  # of the log's end in one answer
MAX_PIECE = 2**20  # of an answer that goes on from a byte
_BLOCK = 64 * 1024
_MAX_CHARACTER = 4  # bytes of a character in UTF-8


@dataclass(frozen=True)
class LogPiece:
    """A part of a log, and the byte after it."""

    data: bytes
    next_byte: int


def read_tail(storage: Storage, key: str, *, lines: int, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the last lines of a stream, at most `max_bytes`; empty if there is no stream."""
    return _read_before(storage, key, _size(storage, key), lines, max_bytes)


def read_end(storage: Storage, key: str, *, lines: int) -> LogPiece:
    """Read the last lines of a stream, and where it goes on from there; no part of a character at its end."""
    size = _size(storage, key)
    found = _read_before(storage, key, size, lines, MAX_BYTES)
    whole = _without_half_a_character(found)
    return LogPiece(whole, size - len(found) + len(whole))


def _read_before(storage: Storage, key: str, size: int, lines: int, max_bytes: int) -> bytes:
    start = size
    tail, block = b"", _BLOCK
    while start > 0 and len(tail) < max_bytes and tail[:-1].count(b"\n") < lines:
        piece = min(block, start, max_bytes - len(tail))
        tail = storage.read_stream(key, start - piece, start) + tail
        start, block = start - piece, 2 * block
    end = b"\n" if tail.endswith(b"\n") else b""  # a line ends there alone: not at a progress bar's carriage returns
    return b"\n".join(tail.removesuffix(b"\n").split(b"\n")[-lines:]) + end


def read_from(storage: Storage, key: str, start: int, *, max_bytes: int = MAX_PIECE) -> LogPiece:
    """Read what stands in a stream from a byte on, at most `max_bytes`, and no part of a character at its end.

    Raises:
        BeyondTheEnd: the stream has fewer bytes.
    """
    size = _size(storage, key)
    if start > size:
        raise BeyondTheEnd(f"from_byte is {start}, and the log has {size} bytes: begin at 0", param="from_byte")
    data = storage.read_stream(key, start, min(size, start + max_bytes)) if size > start else b""
    whole = _without_half_a_character(data)
    return LogPiece(whole, start + len(whole))


def _size(storage: Storage, key: str) -> int:
    found = storage.list_streams(key)
    return found[0].size_bytes if found else 0


def _without_half_a_character(data: bytes) -> bytes:
    """Leave out the beginning of a character at the end, whose other bytes are still to come."""
    for count in range(1, min(_MAX_CHARACTER - 1, len(data)) + 1):
        first = data[-count]
        if first & 0b1100_0000 == 0b1000_0000:
            continue  # it stands within a character, which may begin before it
        length = 4 if 0xF0 <= first <= 0xF4 else 3 if 0xE0 <= first < 0xF0 else 2 if 0xC2 <= first < 0xE0 else 1
        return data[:-count] if count < length else data
    return data
