"""Files that survive a power cut: their content is on the disk before they are renamed into place. Torch-free."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def sync_dir(path: Path) -> None:
    """Sync a folder's entries to the disk, including a rename in it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(exc: BaseException) -> bool:
    """Whether an error says that there is no room: on the disk, or within the user's quota."""
    return isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}
