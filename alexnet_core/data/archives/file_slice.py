"""Opens a part of a file as a file of its own. Torch-free."""

from __future__ import annotations

import io
import os
from typing import IO, cast


class _Slice(io.RawIOBase):
    def __init__(self, descriptor: int, start: int, size: int) -> None:
        self._descriptor, self._start, self._size = descriptor, start, size
        self._position = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._size}[whence]
        self._position = max(0, base + offset)
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # any buffer
        size = max(0, min(len(buffer), self._size - self._position))
        data = os.pread(self._descriptor, size, self._start + self._position)
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def open_slice(descriptor: int, start: int, size: int) -> IO[bytes]:
    """Open a part of an open file for reading. Slices in several threads don't disturb each other.

    Args:
        descriptor: of the file; stays open when the slice is closed.
        start: of the first byte.
        size: in bytes.
    """
    return cast(IO[bytes], io.BufferedReader(_Slice(descriptor, start, size)))
