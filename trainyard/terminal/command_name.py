"""How this program was called, so that what it tells to be typed can be typed."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

NAME = "trainyard"


def own_name() -> str:
    """Return what is typed for the `trainyard` command: its path, where it is not found by its name alone."""
    called = sys.argv[0]
    if Path(called).name != NAME or shutil.which(NAME) == called:
        return NAME
    return called
