"""A worker's thread for one kind of work beside its slots: one piece of work after another, until the worker drains."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from trainyard import tracing
from trainyard.database.tables import Job
from trainyard.errors import DatabaseUnavailable
from trainyard.scheduling.leases import Lease
from worker.claims import Claims

log = logging.getLogger(__name__)


class Runner(Protocol):
    """Does one piece of work, from its claim to its end."""

    def run(self, work: Job, lease: Lease) -> None:
        """Do it. Whatever goes wrong is written as the attempt's end."""
        ...


class Lane(threading.Thread):
    """Claims and runs one piece of work after another."""

    def __init__(
        self, name: str, runner: Runner, claims: Claims, *, tick_s: float, is_draining: Callable[[], bool]
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._runner, self._claims, self._tick_s, self._is_draining = runner, claims, tick_s, is_draining
        self._asked = threading.Event()

    def look(self) -> None:
        """Look for work now; otherwise that is done every tick."""
        self._asked.set()

    def run(self) -> None:
        """The thread's body."""
        while not self._is_draining():
            try:
                claimed = self._claims.take(slot=0)
                if claimed is not None:
                    work, lease = claimed
                    told: dict[str, str | int] = {"work": work.id, "attempt": work.attempt}
                    with tracing.span(work.kind, parent=work.traceparent, kind="consumer", attributes=told):
                        self._runner.run(work, lease)
                    continue
            except DatabaseUnavailable:
                log.warning("the database does not answer; %s look again", self.name)
            except Exception:
                log.exception("%s could not look for work", self.name)
            self._asked.wait(self._tick_s)
            self._asked.clear()
