"""The end of a job's log: what its trainers wrote, all attempts in one file on the worker's data folder."""

from __future__ import annotations

import os
from pathlib import Path

MAX_BYTES = 4 * 2**20  # of one answer
_BLOCK = 64 * 1024


def read_tail(path: Path, *, lines: int, max_bytes: int = MAX_BYTES) -> bytes:
    """Read the last lines of a file, at most `max_bytes` of them; empty if there is no file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    with open(descriptor, "rb") as file:
        start = file.seek(0, os.SEEK_END)
        tail = b""
        while start > 0 and len(tail) < max_bytes and tail[:-1].count(b"\n") < lines:
            size = min(_BLOCK, start, max_bytes - len(tail))
            start = file.seek(start - size)
            tail = file.read(size) + tail
    end = b"\n" if tail.endswith(b"\n") else b""  # a line ends there alone: not at a progress bar's carriage returns
    return b"\n".join(tail.removesuffix(b"\n").split(b"\n")[-lines:]) + end
