"""The priority of a thread among those that want the same cores. On Linux each thread has one of its own."""

from __future__ import annotations

import os
import sys
import threading


def give_way(niceness: int) -> None:
    """Let the calling thread compute only when the others leave it a core, from now on.

    A thread that has this niceness or a higher one keeps it: to lower it takes a privilege.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))
