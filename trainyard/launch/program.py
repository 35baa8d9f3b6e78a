"""The beginning of the `trainyard` command: Ctrl-C ends it without a word while its modules are loaded."""

from __future__ import annotations

import os
import signal
from types import FrameType


def main() -> None:
    """Entry of the `trainyard` command."""
    before = signal.getsignal(signal.SIGINT)
    if before is signal.default_int_handler:  # who started us may have it ignored
        signal.signal(signal.SIGINT, _end)
    from trainyard.launch import cli

    signal.signal(signal.SIGINT, before)
    cli.main()


def _end(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)  # nothing is begun yet; an exception would be raised in the midst of an import
