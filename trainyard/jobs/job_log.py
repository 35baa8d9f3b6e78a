"""Reads the end of a job's log, which its trainers write: one stream in the store for all attempts."""

from __future__ import annotations

from trainyard.storage.interface import Storage

MAX_BYTES = 4 * 2**20  # of one answer
_BLOCK = 64 * 1024


def read_tail(storage: Storage, key: str, *, lines: int, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the last lines of a stream, at most `max_bytes`; empty if there is no stream."""
    found = storage.list_streams(key)
    start = found[0].size_bytes if found else 0
    tail, size = b"", _BLOCK
    while start > 0 and len(tail) < max_bytes and tail[:-1].count(b"\n") < lines:
        piece = min(size, start, max_bytes - len(tail))
        tail = storage.read_stream(key, start - piece, start) + tail
        start, size = start - piece, 2 * size
    end = b"\n" if tail.endswith(b"\n") else b""  # a line ends there alone: not at a progress bar's carriage returns
    return b"\n".join(tail.removesuffix(b"\n").split(b"\n")[-lines:]) + end
