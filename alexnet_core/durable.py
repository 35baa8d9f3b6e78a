"""Writes files that survive a power cut: content is on the disk before the file is renamed into place. Torch-free."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def sync_dir(path: Path) -> None:
    """Write a folder's entries to the disk, including a rename in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(exc: BaseException) -> bool:
    """Whether an error means that there is no space on the disk, or within the user's quota."""
    return isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}
