"""The lock of a slot: a file lock that ensures that only one trainer computes on a device at a time."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable
from pathlib import Path

_LOOK_S = 0.25


class SlotLock:
    """A lock on a file, which the operating system releases when its holder ends, however it ends."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._fileno = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def take(self, go_on_waiting: Callable[[], bool]) -> bool:
        """Take the lock, waiting as long as another process holds it.

        Args:
            go_on_waiting: asked every quarter of a second while another one has it.

        Returns:
            Whether we have it; False: told to wait no longer. Then this process had better end: a thread of it still
            waits in line.
        """
        try:
            fcntl.flock(self._fileno, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            pass
        taken = threading.Event()
        # in the kernel's line, where who came first is next: one who only looked now and then could wait for ever
        threading.Thread(target=self._wait_in_line, args=(taken,), name="slot-lock", daemon=True).start()
        while not taken.wait(_LOOK_S):
            if not go_on_waiting():
                return False
        return True

    def release(self) -> None:
        """Release the lock."""
        os.close(self._fileno)

    def _wait_in_line(self, taken: threading.Event) -> None:
        fcntl.flock(self._fileno, fcntl.LOCK_EX)
        taken.set()
