"""Makes sure that a child of a worker never outlives it. Torch-free."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int | None) -> None:
    """Let the kernel kill this process when the thread that started it ends (Linux; elsewhere no effect).

    Args:
        parent_pid: who started us; if it is gone already, this process ends here. None: don't look.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent_pid is not None and os.getppid() != parent_pid:
        sys.exit("the parent process has ended")
