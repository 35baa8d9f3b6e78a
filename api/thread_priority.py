"""The priority of a thread among those that want the same cores, and pauses of one that gives way to others.

On Linux each thread has a priority of its own. A low one alone does not keep others from waiting: a thread that wakes
up on a core where another one computes waits until the kernel's time slice is over, which may take milliseconds,
whatever the priorities are. So long work is done in pieces that are shorter than that, with pauses between them.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

BUSY_SHARE = 0.25  #: of a core's time that a thread takes at most while others wait for theirs
MAX_PAUSE_S = 0.05  #: after a long piece


def give_way(niceness: int) -> None:
    """Let the calling thread compute only when the others leave it a core, from now on.

    A thread that has this niceness or a higher one keeps it: to lower it takes a privilege.
    """
    if sys.platform == "linux":
        thread = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread, max(niceness, os.getpriority(os.PRIO_PROCESS, thread)))


class Pace:
    """Makes pauses in one thread.

    Args:
        is_busy: whether others may want the core. If not, there are no pauses.
        sleep: sleeps for so many seconds.
        used: returns the seconds for which the calling thread has computed.
    """

    def __init__(
        self,
        is_busy: Callable[[], bool],
        *,
        sleep: Callable[[float], object] = time.sleep,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        self._is_busy, self._sleep, self._used = is_busy, sleep, used
        self._rested_at = 0.0  # by `used`

    def pause(self) -> None:
        """Pause for as long as what was done since the last pause demands."""
        now = self._used()
        worked_s, self._rested_at = now - self._rested_at, now
        if self._is_busy():
            self._sleep(min(MAX_PAUSE_S, worked_s * (1 / BUSY_SHARE - 1)))
