from __future__ import annotations

import threading
import time
from pathlib import Path

from sqlalchemy import func, select, update

from tests.trainyard import yardbook as yb
from trainyard.database import Database, now
from trainyard.queue import SilentBell
from trainyard.reconciler import Reaper, Reconciler, Relay
from trainyard.settings import Settings
from trainyard.storage import LocalStorage
from trainyard.tables import Outbox


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class DeafBell(SilentBell):
    """Its rings pile up."""

    def waiting(self) -> int:
        return self.rings


def words(books: Database) -> int:
    with books.reading() as session:
        return session.scalar(select(func.count()).select_from(Outbox)) or 0


def build_reaper(books: Database, clock: Clock) -> Reaper:
    return Reaper(books, interval_s=10, lease_ttl_s=60, first_backoff_s=0, clock=clock)


def test_the_outbox_is_kept_while_the_bell_is_broken(books: Database) -> None:
    yb.submit(books)
    bell, clock = SilentBell(), Clock()
    relay = Relay(books, bell, rering_s=15, clock=clock)
    bell.broken = True
    relay.tick()
    assert (words(books), relay.queue_is_up) == (1, False)
    bell.broken = False
    clock.at += 3
    relay.tick()
    assert (words(books), bell.rings, relay.queue_is_up) == (0, 1, True)


def test_a_job_that_nobody_claimed_is_rung_for_again(books: Database) -> None:
    job_id = yb.submit(books)
    bell, clock = SilentBell(), Clock()
    relay = Relay(books, bell, rering_s=15, clock=clock)
    relay.tick()
    clock.at += 16
    relay.tick()
    assert bell.rings == 1, "it was queued just now"
    yb.write(books, job_id, queued_at=1.0)
    clock.at += 16
    relay.tick()
    assert bell.rings == 2


def test_no_more_than_twice_the_slots_are_rung(books: Database) -> None:
    for _ in range(10):
        yb.submit(books)
    bell = DeafBell()
    Relay(books, bell, rering_s=15, clock=Clock()).tick()
    assert (bell.rings, words(books)) == (2, 0)


def test_a_job_that_waits_for_its_next_try_is_rung_for_when_it_is_due(books: Database) -> None:
    job_id = yb.submit(books)
    with books.writing() as session:
        session.execute(update(yb.Job).where(yb.Job.id == job_id).values(not_before=now() + 100))
    bell = SilentBell()
    relay = Relay(books, bell, rering_s=15, clock=Clock())
    relay.tick()
    assert (bell.rings, words(books)) == (0, 1)
    yb.write(books, job_id, not_before=0)
    relay.tick()
    assert (bell.rings, words(books)) == (1, 0)


def test_the_reaper_takes_back_what_expired_and_nothing_else(books: Database) -> None:
    dead, _alive = yb.submit(books), yb.submit(books)
    yb.claim(books)
    yb.claim(books, "wrk_b")
    yb.write(books, dead, lease_expires_at=1.0)
    assert build_reaper(books, Clock()).tick() == [dead]


def test_a_reaper_that_was_late_gives_grace_once(books: Database) -> None:
    job_id = yb.submit(books)
    yb.claim(books)
    clock = Clock()
    reaper = build_reaper(books, clock)
    reaper.tick()
    yb.write(books, job_id, lease_expires_at=1.0)
    clock.at += 21
    assert reaper.tick() == []
    yb.write(books, job_id, lease_expires_at=1.0)
    clock.at += 10
    assert reaper.tick() == [job_id]


def test_a_frozen_queue_does_not_hold_up_the_reaper(books: Database, tmp_path: Path) -> None:
    job_id = yb.submit(books)
    yb.claim(books)
    yb.write(books, job_id, lease_expires_at=1.0)
    bell = FrozenBell()
    reconciler = Reconciler(Settings(reaper_s=0.05), books, bell, LocalStorage(tmp_path))
    reconciler.start()
    try:
        assert bell.entered.wait(10)
        deadline = time.monotonic() + 10
        while yb.look(books, job_id).state == "running" and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        bell.thaw.set()
        reconciler.stop()
    assert yb.look(books, job_id).state_reason == "lease_lost"


class FrozenBell(SilentBell):
    """Does not come back until it is thawed."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.thaw = threading.Event(), threading.Event()

    def waiting(self) -> int:
        self.entered.set()
        self.thaw.wait(20)
        return 0
