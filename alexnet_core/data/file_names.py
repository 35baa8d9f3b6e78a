"""Keeps the names of the files that a pack's images were read from, beside the pack. Torch-free.

They are no part of the pack's digest: the same images under other names are the same dataset. A pack of a built-in
dataset has none, and neither has one that an earlier version made.

file_names.jsonl   one JSON string a line, in the order of the images: its path in the folder or archive
file_names.npy     int64 (N + 1,): where each line begins, and where the last one ends
"""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, overload

import numpy as np
from numpy.typing import NDArray

from alexnet_core.layout import FILE_NAME_STARTS, FILE_NAMES
from alexnet_core.regular_files import open_regular


def write_file_names(folder: Path, names: Iterable[str]) -> None:
    """Write the names of a pack's files into its folder. What is no character in them is escaped.

    Raises:
        OSError: as from any file that is written.
    """
    starts = array("q", [0])
    with (folder / FILE_NAMES).open("xb") as file:
        for name in names:
            file.write(json.dumps(show_name(name), ensure_ascii=False).encode() + b"\n")
            starts.append(file.tell())
        file.flush()
        os.fsync(file.fileno())
    with (folder / FILE_NAME_STARTS).open("xb") as file:
        np.save(file, np.frombuffer(starts, dtype="<i8"), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def open_file_names(folder: Path, num_images: int) -> FileNames | None:
    """Open the names of a pack's files. None: it has none, or they don't fit its images.

    Args:
        folder: the pack's.
        num_images: of the pack.

    Raises:
        OSError: they can't be read just now.
    """
    try:
        with open_regular(folder, FILE_NAME_STARTS) as file:
            starts = _read_starts(file, num_images + 1)
        with open_regular(folder, FILE_NAMES) as file:
            size = os.fstat(file.fileno()).st_size
    except (FileNotFoundError, EOFError, ValueError):
        return None
    fits = starts[0] == 0 and starts[-1] == size and bool((np.diff(starts) > 0).all())
    return FileNames(folder, starts) if fits else None


def _read_starts(file: BinaryIO, expected: int) -> NDArray[np.int64]:
    """Read the starts only if there are as many as expected, however many the file claims to have.

    Raises:
        EOFError, ValueError: it is another array, or none.
    """
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("another version of NumPy's format")
    if np.lib.format.read_array_header_1_0(file) != ((expected,), False, np.dtype("<i8")):
        raise ValueError("another array")
    return np.frombuffer(file.read(8 * expected), dtype="<i8", count=expected)


class FileNames(Sequence[str | None]):
    """The names of a pack's files, read from the disk as they are asked for. None stands for one that is damaged."""

    def __init__(self, folder: Path, starts: NDArray[np.int64]) -> None:
        self._folder, self._starts = folder, starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str | None: ...

    @overload
    def __getitem__(self, index: slice) -> list[str | None]: ...

    def __getitem__(self, index: int | slice) -> str | list[str | None] | None:
        """Return the name of one image's file, or those of several."""
        if isinstance(index, slice):
            return self.read(range(*index.indices(len(self))))
        return self.read([index])[0]

    def read(self, indices: Iterable[int]) -> list[str | None]:
        """Return the names of the files of some images.

        Raises:
            IndexError: there is no such image.
            OSError: they can't be read just now.
        """
        found: list[str | None] = []
        with open_regular(self._folder, FILE_NAMES) as file:
            for index in indices:
                if not 0 <= index < len(self):
                    raise IndexError(f"there are {len(self)} images, so none has the index {index}")
                start, end = int(self._starts[index]), int(self._starts[index + 1])
                file.seek(start)
                found.append(_parse(file.read(end - start)))
        return found


def show_name(name: str) -> str:
    """Return a file's name as text: bytes of it that are not UTF-8 are escaped."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def _parse(line: bytes) -> str | None:
    try:
        name = json.loads(line)
    except ValueError:
        return None
    return name if isinstance(name, str) else None
