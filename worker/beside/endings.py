"""How an attempt at work beside the slots ends: whatever it raises becomes an ending, and endings are written."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from sqlalchemy.orm import Session

from alexnet_core.durable import is_disk_full
from alexnet_core.messages import StopRequested
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable, LeaseLost, StorageUnavailable
from trainyard.scheduling.leases import Ending, Lease, end_attempt
from trainyard.settings import Settings

log = logging.getLogger(__name__)


def explain(exc: Exception, facts: dict[str, Any]) -> Ending:
    """Return how an attempt ends that raised something. Call it where the exception was caught.

    Args:
        exc: what was raised.
        facts: about the attempt, for the log.

    Raises:
        LeaseLost: it was that: the attempt ends without a word.
    """
    if isinstance(exc, LeaseLost):
        raise exc
    if isinstance(exc, StopRequested):
        return Ending(stopped=exc.reason.value)
    if isinstance(exc, StorageUnavailable | DatabaseUnavailable):
        return Ending(failure="storage_unavailable", message=str(exc))
    log.exception("an attempt ended with an error of the worker", extra=facts)
    code = "disk_full" if is_disk_full(exc) else "internal_error"
    told = exc.strerror if isinstance(exc, OSError) else exc  # no path of this machine
    return Ending(failure=code, message=f"The worker: {type(exc).__name__}: {told}")


def write_ending(
    settings: Settings,
    database: Database,
    lease: Lease,
    ending: Ending,
    *,
    beside: Callable[[Session], None] = lambda session: None,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Write an attempt's end, however long it takes the database to answer.

    Args:
        settings: of the worker.
        database: of the yard.
        lease: of the attempt.
        ending: how it ended.
        beside: what else is written in the same transaction.
        sleep: waits.

    Raises:
        LeaseLost: another worker has it, or it was deleted.
    """
    while True:
        try:
            with database.writing() as session:
                end_attempt(session, lease, ending, first_backoff_s=settings.backoff_s)
                beside(session)
            return
        except DatabaseUnavailable:
            log.warning("the database does not answer; the end waits", extra={"work": lease.job_id})
            sleep(settings.tick_s)
