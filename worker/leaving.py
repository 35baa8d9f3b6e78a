"""Ends a drained worker if Celery does not: while the queue is frozen, Celery's consumer may hang for minutes."""

from __future__ import annotations

import logging
import os
import sys
import threading

from trainyard import tracing
from worker.station import Station

log = logging.getLogger(__name__)

LEAVE_S = 5.0  #: for Celery to end by itself after every job is given back


class Leaving:
    """Ends the process shortly after its station has finished all jobs."""

    def __init__(self, station: Station) -> None:
        self._station = station
        self._thread = threading.Thread(target=self._leave, name="leaving", daemon=True)
        self._celery_ended = threading.Event()
        self._starting = threading.Lock()

    def start(self) -> None:
        """Begin to wait for the station. Call it when the worker is told to end; harmless a second time."""
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()

    def celery_ended(self) -> None:
        """Leave the rest to the interpreter, which ends the process as usual."""
        self._celery_ended.set()

    def _leave(self) -> None:
        self._station.wait_until_idle()
        self._station.close()
        if self._celery_ended.wait(LEAVE_S):
            return
        log.warning(
            "the connection to the queue does not close; the worker ends without waiting for it",
            extra={"after_s": LEAVE_S},
        )
        tracing.stop()
        logging.shutdown()
        sys.stdout.flush()
        os._exit(0)
