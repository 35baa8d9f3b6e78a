"""Opens only regular files, so that no link, FIFO or device can replace a checkpoint's or a pack's file. Torch-free.

A FIFO would keep its reader waiting for ever, and a link would give access to a file elsewhere.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path, PurePosixPath
from typing import BinaryIO


class NotRegular(FileNotFoundError):
    """There is something other than a regular file at this path; for a reader the file does not exist."""


def open_regular(folder: Path, name: str) -> BinaryIO:
    """Open a file below a folder for reading. Nothing on the path from the folder to the file may be a link.

    Args:
        folder: may be reached by links: that is how a disk is mounted elsewhere.
        name: by `/`.

    Raises:
        FileNotFoundError: there is none.
        NotRegular: there is something else.
        OSError: it can't be opened.
    """
    path = folder / name
    *between, last = PurePosixPath(name).parts
    parent = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in between:
            parent = _step(path, parent, part)
        return _open(path, parent, last)
    finally:
        os.close(parent)


def read_regular(folder: Path, name: str) -> bytes:
    """Return the content of a file; see `open_regular`."""
    with open_regular(folder, name) as file:
        return file.read()


def _step(path: Path, parent: int, part: str) -> int:
    """Open the folder below an open one, which is closed on success."""
    below = _open_in(path, parent, part, os.O_DIRECTORY)
    os.close(parent)
    return below


def _open(path: Path, parent: int, name: str) -> BinaryIO:
    descriptor = _open_in(path, parent, name, os.O_NONBLOCK)  # a FIFO opens at once
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _not_regular(path)
    return open(descriptor, "rb")


def _open_in(path: Path, parent: int, name: str, flags: int) -> int:
    try:
        return os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | flags, dir_fd=parent)
    except FileNotFoundError as exc:
        raise FileNotFoundError(exc.errno, exc.strerror, str(path)) from None
    except OSError as exc:
        if exc.errno in {errno.ELOOP, errno.ENOTDIR, errno.ENXIO, errno.ENODEV}:  # a link, no folder, a socket
            raise _not_regular(path) from exc
        raise


def _not_regular(path: Path) -> NotRegular:
    return NotRegular(errno.ENOENT, "this is not a regular file", str(path))
