"""Files that survive a power cut: what is renamed into place must be on the disk before. Torch-free."""

from __future__ import annotations

import errno
import os
from pathlib import Path


def sync_dir(path: Path) -> None:
    """Have the disk hold a folder's entries, a rename in it included."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(exc: BaseException) -> bool:
    """Whether an error says that there is no room: on the disk, or within the user's quota."""
    return isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}
