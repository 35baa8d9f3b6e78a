"""Writes the heartbeats of work beside the slots, with its newest progress."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from alexnet_core.messages import StopReason, StopRequested
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable
from trainyard.scheduling.leases import Lease, heartbeat, report_event
from trainyard.states import Desired, EventType

log = logging.getLogger(__name__)


class Heartbeats:
    """Called every tick."""

    def __init__(self, database: Database, lease: Lease, ttl_s: float, is_draining: Callable[[], bool]) -> None:
        self._database, self._lease, self._ttl_s, self._is_draining = database, lease, ttl_s, is_draining
        self._progress: dict[str, Any] | None = None
        self._told_phase: str | None = None

    def note(self, phase: str, done: int, total: int) -> None:
        """Remember progress, to be written with the next heartbeat."""
        self._progress = {"phase": phase, "done": done, "total": total}

    def note_phase(self, phase: str) -> None:
        """Remember a phase without a count."""
        self.note(phase, 0, 1)

    def __call__(self) -> None:
        """Write a heartbeat.

        Raises:
            StopRequested: there is no point in going on.
            LeaseLost: the lease is over.
        """
        if self._is_draining():
            raise StopRequested(StopReason.DRAIN)
        progress = self._progress
        try:
            with self._database.writing() as session:
                if progress is not None and progress["phase"] != self._told_phase:
                    report_event(session, self._lease, EventType.PHASE, reason=progress["phase"])
                columns = {} if progress is None else {"progress": progress, "state_reason": progress["phase"]}
                desired = heartbeat(session, self._lease, self._ttl_s, **columns)
        except DatabaseUnavailable:
            log.warning("the database does not answer; the work goes on", extra={"work": self._lease.job_id})
            return
        self._told_phase = None if progress is None else progress["phase"]
        if desired is not Desired.RUN:
            raise StopRequested(StopReason(desired))
