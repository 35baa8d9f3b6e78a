"""How a child process is bound to its parent: what it is handed, how long it may take, when it ends. Torch-free."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading

#: Variables that a child needs to find its libraries; no key and no password is among them.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "VIRTUAL_ENV")
_PR_SET_PDEATHSIG = 1


def scrubbed_environment() -> dict[str, str]:
    """Return this process's environment without the addresses, keys and passwords of services."""
    return {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def die_with_parent(parent_pid: int | None) -> None:
    """Let the kernel kill this process when the thread that started it ends (Linux; elsewhere no effect).

    Args:
        parent_pid: who started us; if it is gone already, this process ends here. None: don't look.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None and os.getppid() != parent_pid:
        sys.exit("the parent process has ended")


class TimeLimit:
    """Kills a process when its time is over, and never after that was called off."""

    def __init__(self, process: subprocess.Popen[bytes], seconds: float) -> None:
        self._process, self._lock, self._is_off = process, threading.Lock(), False
        self.is_over = False
        self._timer = threading.Timer(seconds, self._end)
        self._timer.start()

    def cancel(self) -> None:
        """Call it off."""
        with self._lock:  # the timer may be about to fire: the process goes on with the next request
            self._is_off = True
        self._timer.cancel()

    def _end(self) -> None:
        with self._lock:
            if not self._is_off:
                self.is_over = True
                self._process.kill()
