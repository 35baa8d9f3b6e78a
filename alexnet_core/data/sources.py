"""Lists and opens files by path, in a folder or in an archive. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import IO, Protocol

from alexnet_core.errors import DatasetUnavailable, ImageTooLarge, ImageUnreadable
from alexnet_core.regular_files import NotRegular, open_regular


class Source(Protocol):
    """Files with paths. Paths are unique and relative, with `/`; those of folders end in `/`."""

    @property
    def paths(self) -> Sequence[str]:
        """Every file and folder."""
        ...

    def open(self, path: str) -> AbstractContextManager[IO[bytes]]:
        """Open a file for reading. Several threads may call this at the same time.

        Raises:
            ImageError: the file is damaged or is no regular file; reading may raise it too.
            OSError: the disk fails, which says nothing about the file.
        """
        ...


class FolderSource:
    """The files below a folder. Links are listed but can't be opened, so nothing outside the folder is read."""

    def __init__(self, folder: Path) -> None:
        """Take a folder.

        Raises:
            DatasetUnavailable: there is none.
        """
        if not folder.is_dir():
            raise DatasetUnavailable(f"There is no folder {folder}.")
        self._folder = folder

    @cached_property
    def paths(self) -> Sequence[str]:
        """See `Source`."""
        return list(list_paths(self._folder))

    def open(self, path: str) -> IO[bytes]:
        """See `Source`."""
        try:
            return open_regular(self._folder, path)
        except NotRegular:
            raise ImageUnreadable("It is a link or no file.") from None


def list_paths(folder: Path) -> Iterator[str]:
    """List every file below a folder as a relative path with `/`. Folders end in `/`; links are listed, not followed.

    Raises:
        OSError: the folder can't be read.
    """

    def fail(error: OSError) -> None:
        raise error

    for root, folders, files in os.walk(folder, onerror=fail, followlinks=False):
        base = Path(root).relative_to(folder)
        yield from ((base / name).as_posix() + "/" for name in folders)
        yield from ((base / name).as_posix() for name in files)


def read_whole(source: Source, path: str, max_bytes: int) -> bytes:
    """Return the content of a file, if it is not larger than a limit.

    Raises:
        ImageTooLarge: it has more.
        ImageError, OSError: see `Source.open`.
    """
    with source.open(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ImageTooLarge(f"The file has more than {max_bytes:,} bytes.")
    return data
