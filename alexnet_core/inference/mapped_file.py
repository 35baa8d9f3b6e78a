"""Bytes in a file without a name, mapped into memory: the kernel can take the memory back and read them again.

OpenVINO keeps the weights that it was given for as long as a network lives, beside its own copy of them in the order
and precision that it computes with. It hardly reads them after the first batch, and of a large network they would be
two thirds of its memory.
"""

from __future__ import annotations

import mmap
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Scratch:
    """A folder for files without a name.

    Args:
        folder: on whose disk they lie. One that lies in memory saves nothing.
        min_free_bytes: that they leave free on that disk.
    """

    folder: Path
    min_free_bytes: int = 0

    def map_file(self, fill: Callable[[BinaryIO], object], size: int) -> mmap.mmap | None:
        """Return a file's bytes as memory. It may be written to, which does not change the file.

        The file is one of its own: whoever changes or cuts the one that the bytes come from changes nothing here.

        Args:
            fill: writes the bytes.
            size: how many, at least one. They take as much of the disk until the mapping is closed.

        Returns:
            None: there is no room for it, or `fill` could not read what it writes.
        """
        try:
            if shutil.disk_usage(self.folder).free - size < self.min_free_bytes:
                return None
            with tempfile.TemporaryFile(dir=self.folder) as file:
                fill(file)
                file.flush()
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        except OSError:
            return None


def give_back(mapping: mmap.mmap) -> None:
    """Give the memory of a mapped file back. What is read of it later is read from the file again."""
    mapping.madvise(mmap.MADV_DONTNEED)
