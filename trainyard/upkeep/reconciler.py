"""Makes the world agree with the database, again and again: wakes workers, reaps leases, removes files.

Any number of reconcilers may run at once: every change is a compare-and-set, so an additional one does no harm.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Protocol

from sqlalchemy import Select, delete, func, or_, select
from sqlalchemy.orm import Session

from trainyard import failpoints
from trainyard.artifacts.dataset_intake import settle
from trainyard.artifacts.upload_files import UploadFolder
from trainyard.database.connection import Database, now, read_clock
from trainyard.database.tables import Job, Outbox
from trainyard.errors import DatabaseUnavailable, StorageUnavailable
from trainyard.scheduling import leases, workers
from trainyard.scheduling.queue import QueueUnavailable, Waker
from trainyard.settings import Settings
from trainyard.states import JobState
from trainyard.storage.interface import Storage
from trainyard.storage.opening import StoreGuard
from trainyard.upkeep.abandoned_uploads import AbandonedUploads
from trainyard.upkeep.exports import Exports
from trainyard.upkeep.garbage import Garbage
from trainyard.upkeep.leftovers import Leftovers

log = logging.getLogger(__name__)

QUEUE_RETRY_S = 2.0
MOST_RINGS = 100
RELAY_STOP_S = 1.0  # a frozen queue can hold it for long; nothing is lost if it ends with the process
SWEEP_STOP_S = 10.0  # a slow disk can hold it; what it did not remove it finds again

Tick = tuple[float, Callable[[], object]]  # every so many seconds; what


class UpkeepObserver(Protocol):
    """Is told what a reconciler finds. Its threads call; an implementation returns at once and never raises."""

    def leases_lost(self, count: int) -> None:
        """Tell how many pieces of work were just taken back from workers that no longer answer."""
        ...

    def queue_answers(self, up: bool) -> None:
        """Tell whether the queue took the last wake-up message. Called when that changes."""
        ...


class Relay:
    """Sends wake-up messages from the outbox to the queue, and sends another for jobs that nobody has claimed."""

    def __init__(
        self,
        database: Database,
        waker: Waker,
        *,
        wake_again_s: float,
        observer: UpkeepObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._waker, self._wake_again_s, self._clock = database, waker, wake_again_s, clock
        self._observer = observer
        self._last_wake_again = clock()
        self._silent_until = 0.0
        self.queue_is_up = True

    def tick(self) -> None:
        """Send every message in the outbox that is due, then remove it. While the queue is down messages stay there."""
        if self._clock() < self._silent_until:
            return
        with self._database.reading() as session:
            words = list(session.scalars(_due_words()))
            forgotten = 0
            if self._clock() - self._last_wake_again >= self._wake_again_s:
                self._last_wake_again = self._clock()
                forgotten = self._count_forgotten(session)
            enough = 2 * max(1, workers.count_slots(session)) if words or forgotten else 0
        if not words and not forgotten:
            return
        failpoints.hit("relay_after_reading")
        try:
            free = (
                enough - self._waker.waiting()
            )  # a worker that hears one message takes job after job: more are of no use
            for _ in range(min(free, len(words) or forgotten)):
                self._waker.wake()
        except QueueUnavailable as exc:
            self._silent_until = self._clock() + QUEUE_RETRY_S
            self._last_wake_again = self._clock() - self._wake_again_s  # it may come back empty: send again at once
            self._report(up=False, detail=str(exc))
            return
        self._report(up=True)
        self._last_wake_again = self._clock()
        failpoints.hit("relay_after_wake_up")
        if words:
            with self._database.writing() as session:
                session.execute(delete(Outbox).where(Outbox.id.in_(words)))

    def _count_forgotten(self, session: Session) -> int:
        """Count jobs that nobody has claimed, up to the number that could be of use."""
        due = (Job.state == JobState.QUEUED, Job.not_before <= now(), Job.queued_at <= now() - self._wake_again_s)
        waiting = select(Job.id).where(*due).limit(MOST_RINGS).subquery()
        return int(session.scalar(select(func.count()).select_from(waiting)) or 0)

    def _report(self, *, up: bool, detail: str = "") -> None:
        if up != self.queue_is_up:
            log.log(logging.INFO if up else logging.WARNING, "the queue answers again" if up else detail)
            if self._observer is not None:
                self._observer.queue_answers(up)
        self.queue_is_up = up


def _due_words() -> Select[int]:
    """Select messages whose job may be claimed now; sent earlier, they would wake a worker for nothing."""
    due = or_(Job.id.is_(None), Job.not_before <= now())
    return select(Outbox.id).outerjoin(Job, Job.id == Outbox.job_id).where(due).order_by(Outbox.id).limit(MOST_RINGS)


class Reaper:
    """Takes jobs back from workers that no longer answer, by the database's clock."""

    def __init__(
        self,
        database: Database,
        *,
        interval_s: float,
        lease_ttl_s: float,
        first_backoff_s: float,
        observer: UpkeepObserver | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._clock, self._observer = database, clock, observer
        self._interval_s, self._lease_ttl_s, self._first_backoff_s = interval_s, lease_ttl_s, first_backoff_s
        self._began = clock()
        self._last_tick: tuple[float, float] | None = None

    def tick(self) -> list[str]:
        """Take back the jobs whose leases have expired.

        A reaper may itself be late, by its own or by the database's clock (a suspended machine, a frozen database, a
        step of the clock). Then it can't tell a dead worker from one that slept at the same time, so it extends once
        every lease with a heartbeat not long before its last tick. A worker that was silent already gets no extension,
        however often the reaper is late. If the database's clock was set back, no lease, no place in the queue and no
        heartbeat stays in the future.

        Returns:
            The ids of the jobs taken back.
        """
        with self._database.writing() as session:
            moment = (self._clock(), read_clock(session))
            if (seen_since := self._find_sleepers(moment)) is not None:
                extended = leases.grant_grace(session, moment[1] + self._lease_ttl_s, seen_since=seen_since)
                log.warning("the reaper was late, so leases are extended", extra={"leases": extended})
            brought_back = leases.follow_clock_back(session, moment[1], self._lease_ttl_s)
            unseen = workers.follow_clock_back(session, moment[1], self._lease_ttl_s)
            if brought_back or unseen:
                told = {"brought_back": brought_back, "workers": unseen}
                log.warning("the database's clock was set back: later times were corrected", extra=told)
            reaped = leases.reap(session, moment[1], first_backoff_s=self._first_backoff_s)
            for job_id in reaped:
                settle(session, job_id)
        self._last_tick = moment
        if reaped and self._observer is not None:
            self._observer.leases_lost(len(reaped))
        for job_id in reaped:
            log.warning("a lease expired; the job was taken back", extra={"job_id": job_id})
        return reaped

    def _find_sleepers(self, moment: tuple[float, float]) -> float | None:
        """Return since when a worker must have been seen to count as asleep like us. None: we were not late."""
        patience_s = 2 * self._interval_s
        last = self._last_tick
        if last is None:  # a first look that was late: the database was away when we began, and who knows since when
            return 0.0 if moment[0] - self._began > patience_s else None
        is_late = any(new - old > patience_s for old, new in zip(last, moment, strict=True))
        return last[1] - patience_s if is_late else None


class Reconciler(threading.Thread):
    """Runs the relay, the reaper and the sweeps of files, each at its own interval, until `stop`."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        waker: Waker,
        storage: Storage,
        observer: UpkeepObserver | None = None,
    ) -> None:
        super().__init__(name="reconciler", daemon=True)
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._relay_s = settings.relay_s
        self.relay = Relay(database, waker, wake_again_s=settings.wake_again_s, observer=observer)
        reaper = Reaper(
            database,
            interval_s=settings.reaper_s,
            lease_ttl_s=settings.lease_ttl_s,
            first_backoff_s=settings.backoff_s,
            observer=observer,
        )
        garbage = Garbage(
            database, storage, grace_s=settings.garbage_grace_s, keep_predictions_s=settings.prediction_keep_s
        )
        store = StoreGuard(database, storage)
        leftovers = Leftovers(database, storage, stale_s=settings.leftover_s)
        folder = UploadFolder(settings.data_dir, min_free_bytes=settings.min_free_disk_bytes)
        abandoned = AbandonedUploads(database, storage, folder, expires_s=settings.upload_expires_s)
        exports = Exports(database, settings.data_dir, max_bytes=settings.export_cache_bytes)
        self._reaps: list[Tick] = [(settings.reaper_s, reaper.tick)]
        self._sweeps: list[Tick] = [
            (settings.reaper_s, store.check),  # first: the sweeps believe only the store that it has recognised
            (max(settings.reaper_s, settings.garbage_grace_s / 6), garbage.tick),
            (max(settings.reaper_s, settings.garbage_grace_s), leftovers.tick),
            (settings.reaper_s, abandoned.tick),
            (max(settings.reaper_s, settings.garbage_grace_s), exports.tick),
        ]

    def wake(self) -> None:
        """Look into the outbox now. Call it after a commit."""
        self._wake.set()

    def stop(self) -> None:
        """End the thread and wait for its current round, but not for a queue that does not answer."""
        self._stopped.set()
        self._wake.set()
        self.join(timeout=15)

    def run(self) -> None:
        """The thread's body; call it directly to run a reconciler alone.

        The reaper has a thread of its own: if it waited for a frozen queue or a slow disk, it would be late again and
        again, and give dead workers grace.
        """
        relay = threading.Thread(target=self._run_relay, name="relay", daemon=True)
        sweeps = threading.Thread(target=self._repeat, args=(self._sweeps,), name="sweeps", daemon=True)
        relay.start()
        sweeps.start()
        self._repeat(self._reaps)
        relay.join(timeout=RELAY_STOP_S)
        sweeps.join(timeout=SWEEP_STOP_S)

    def _repeat(self, ticks: list[Tick]) -> None:
        due = [0.0 for _ in ticks]
        while not self._stopped.is_set():
            for index, (interval_s, tick) in enumerate(ticks):
                if time.monotonic() >= due[index]:
                    due[index] = time.monotonic() + interval_s
                    self._guarded(tick)
            self._stopped.wait(max(0.01, min(due) - time.monotonic()))

    def _run_relay(self) -> None:
        while not self._stopped.is_set():
            self._guarded(self.relay.tick)
            self._wake.wait(self._relay_s)
            self._wake.clear()

    @staticmethod
    def _guarded(tick: Callable[[], object]) -> None:
        """Run one round. Any error is logged, and the next round follows."""
        try:
            tick()
        except DatabaseUnavailable:
            log.warning("the database does not answer; trying again")
        except StorageUnavailable as exc:
            log.warning("the store can't be used; trying again", extra={"detail": str(exc)})
        except Exception:
            log.exception("a round of the reconciler failed; trying again")
