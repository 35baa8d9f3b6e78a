"""Processes that are started again when they end."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

POLL_S = 0.05
FIRST_BACKOFF_S = 0.5
MAX_BACKOFF_S = 30.0
STEADY_S = 20.0  #: a child that lived this long died by accident: no back-off


@dataclass(frozen=True)
class Ended:
    """How a process ended."""

    pid: int
    status: int  #: its exit status; below 0: minus the signal that ended it
    wait_s: float  #: until it is started again
    was_steady: bool  #: whether it had run for a while


@dataclass
class Child:
    """A supervised process, and how often it has died in a row."""

    name: str
    start: Callable[[], subprocess.Popen[bytes]]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    deaths: int = 0
    not_before: float = 0.0

    def run(self) -> None:
        """Start the process."""
        self.process, self.started_at = self.start(), time.monotonic()

    def is_alive(self) -> bool:
        """Whether the process is running."""
        return self.process is not None and self.process.poll() is None

    def revive(self) -> Ended | None:
        """Start the process again if it has ended, after a wait that grows while it ends soon after each start.

        Returns:
            How it ended, once for each time.
        """
        if self.is_alive():
            return None
        moment, ended = time.monotonic(), None
        if self.process is not None:
            steady = moment - self.started_at > STEADY_S
            self.deaths = 1 if steady else self.deaths + 1
            wait_s = 0.0 if steady else min(MAX_BACKOFF_S, FIRST_BACKOFF_S * 2 ** (self.deaths - 1))
            ended = Ended(self.process.pid, self.process.returncode, wait_s, was_steady=steady)
            self.process, self.not_before = None, moment + wait_s
        if moment >= self.not_before:
            self.run()
        return ended

    def stop(self, grace_s: float, give_up: Callable[[], bool]) -> None:
        """Send SIGTERM, then SIGKILL when the time is over or `give_up` says so."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        deadline = time.monotonic() + grace_s
        while self.process.poll() is None and time.monotonic() < deadline and not give_up():
            time.sleep(POLL_S)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
