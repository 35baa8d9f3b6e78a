"""Makes the files of a yard readable only for its user."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path

OTHERS = stat.S_IRWXG | stat.S_IRWXO


def keep_private(folder: Path) -> None:
    """Make a folder that only this user may enter, and make every new file of this process private.

    An existing folder of this user is closed to others, too, because an older version left it open.

    Args:
        folder: made with its parents where it is not there.
    """
    os.umask(OTHERS)
    folder.mkdir(mode=stat.S_IRWXU, parents=True, exist_ok=True)
    mode = stat.S_IMODE(folder.stat().st_mode)
    if mode & OTHERS:
        with suppress(PermissionError):  # it is another user's, who decides
            folder.chmod(mode & ~OTHERS)
