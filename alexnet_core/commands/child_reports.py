"""What a child process of a worker says on its standard output: messages, and how far each phase is."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from alexnet_core.messages import Message

Phase = TypeVar("Phase")
REPORT_EVERY_S = 0.25


def say(message: Message) -> None:
    """Send a message to the worker now."""
    sys.stdout.buffer.write(message.to_line())
    sys.stdout.buffer.flush()


class PhaseReports(Generic[Phase]):
    """Says how far a phase is: a few times a second, and at the beginning and the end of each."""

    def __init__(self, build: Callable[[Phase, int, int], Message]) -> None:
        self._build = build
        self._said: tuple[Phase, float] | None = None

    def report(self, phase: Phase, done: int, total: int) -> None:
        """Say that so much of a phase is done, if it is time to."""
        now = time.monotonic()
        is_due = self._said is None or self._said[0] != phase or now - self._said[1] >= REPORT_EVERY_S
        if is_due or done == total:
            self._said = (phase, now)
            say(self._build(phase, done, total))
