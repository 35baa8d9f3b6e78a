"""Makes the files of a yard readable only for its user."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO


class FolderUnusable(ValueError):
    """The folder for a yard's data can't be made or written."""


def keep_private(folder: Path) -> None:
    """Make a folder that only this user may enter, and make every new file of this process private.

    An existing folder of this user is closed to others, too, because an older version left it open.

    Args:
        folder: made with its parents where it is not there.

    Raises:
        FolderUnusable: it can't be made, or this user may not write in it.
    """
    os.umask(OTHERS)
    try:
        folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    except OSError as exc:
        raise _unusable(folder, exc.strerror) from exc
    if not os.access(folder, os.W_OK | os.X_OK):
        raise _unusable(folder, "it can't be written")
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & OTHERS:
        with suppress(PermissionError):  # it is another user's, who decides
            folder.chmod(mode & ~OTHERS)


def _unusable(folder: Path, reason: str | None) -> FolderUnusable:
    return FolderUnusable(
        f"the folder for data, {folder}, can't be used: {reason}. Name one that this user may write with "
        "TRAINYARD_DATA_DIR, or make this one writable"
    )
