from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from tests.trainyard import yardbook as yb
from trainyard.artifacts.storage import LocalStorage
from trainyard.database.connection import Database, now, read_clock
from trainyard.database.ids import new_id
from trainyard.database.tables import Outbox, Worker
from trainyard.scheduling import leases, workers
from trainyard.scheduling.queue import SilentBell
from trainyard.scheduling.workers import WorkerIdentity
from trainyard.settings import Settings
from trainyard.upkeep import reconciler as reconciler_module
from trainyard.upkeep.reconciler import Reaper, Reconciler, Relay


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


def test_a_reaper_that_began_while_the_database_was_away_gives_grace_once(books: Database) -> None:
    job_id = yb.submit(books)
    yb.claim(books)
    clock = Clock()
    reaper = build_reaper(books, clock)
    yb.write(books, job_id, lease_expires_at=1.0, heartbeat_at=1.0)
    clock.at += 21
    assert reaper.tick() == []
    yb.write(books, job_id, lease_expires_at=1.0)
    clock.at += 10
    assert reaper.tick() == [job_id]


def test_a_reaper_that_is_always_late_still_takes_a_dead_workers_job(books: Database) -> None:
    job_id = yb.submit(books)
    yb.claim(books)
    clock = Clock()
    reaper = build_reaper(books, clock)
    reaper.tick()
    yb.write(books, job_id, lease_expires_at=1.0, heartbeat_at=1.0)
    clock.at += 21
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


class SlowSweep:
    """Takes as long as a test wants it to."""

    def __init__(self) -> None:
        self.entered, self.done = threading.Event(), threading.Event()

    def tick(self) -> None:
        self.entered.set()
        self.done.wait(60)


def test_a_slow_sweep_does_not_hold_up_the_reaper(
    books: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = yb.submit(books)
    yb.claim(books)
    sweep = SlowSweep()
    monkeypatch.setattr("trainyard.upkeep.reconciler.Garbage", lambda *args, **options: sweep)
    reconciler = Reconciler(Settings(reaper_s=0.05), books, SilentBell(), LocalStorage(tmp_path))
    reconciler.start()
    try:
        assert sweep.entered.wait(10)
        yb.write(books, job_id, lease_expires_at=1.0, heartbeat_at=1.0)
        deadline = time.monotonic() + 10
        while yb.look(books, job_id).state == "running" and time.monotonic() < deadline:
            time.sleep(0.02)
        state_reason = yb.look(books, job_id).state_reason
    finally:
        sweep.done.set()
        reconciler.stop()
    assert state_reason == "lease_lost"


def test_the_end_does_not_wait_for_a_frozen_queue(books: Database, tmp_path: Path) -> None:
    yb.submit(books)
    bell = FrozenBell()
    reconciler = Reconciler(Settings(), books, bell, LocalStorage(tmp_path))
    reconciler.start()
    assert bell.entered.wait(10)
    begun = time.monotonic()
    reconciler.stop()
    took_s = time.monotonic() - begun
    bell.thaw.set()
    assert not reconciler.is_alive()
    assert took_s < 10, "it waited for the queue"


def test_several_reapers_at_once_take_a_job_back_once(books: Database) -> None:
    made = [yb.submit(books) for _ in range(6)]
    for _ in made:
        yb.claim(books)
    for job_id in made:
        yb.write(books, job_id, lease_expires_at=1.0)
    reapers = [build_reaper(books, Clock()) for _ in range(4)]
    barrier = threading.Barrier(4)
    reaped: list[str] = []

    def work(reaper: Reaper) -> None:
        barrier.wait()
        reaped.extend(reaper.tick())

    threads = [threading.Thread(target=work, args=(reaper,)) for reaper in reapers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(reaped) == sorted(made)
    for job_id in made:
        job = yb.look(books, job_id)
        assert (job.state, job.failures, job.event_seq) == ("queued", 1, 3)


def test_relays_at_once_lose_no_word(books: Database) -> None:
    made = [yb.submit(books) for _ in range(2)]
    bells = [SilentBell() for _ in range(3)]
    relays = [Relay(books, bell, rering_s=15, clock=Clock()) for bell in bells]
    threads = [threading.Thread(target=relay.tick) for relay in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert words(books) == 0
    assert sum(bell.rings for bell in bells) >= len(made)


def test_a_database_clock_that_jumped_gives_grace_once(books: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = yb.submit(books)
    yb.claim(books)
    reaper = build_reaper(books, Clock())
    jump = 0.0
    monkeypatch.setattr(reconciler_module, "read_clock", lambda session: read_clock(session) + jump)
    reaper.tick()
    jump = 3600.0
    assert reaper.tick() == [], "every lease looks expired, but the clock was set"
    assert yb.look(books, job_id).state == "running"


def test_a_database_clock_that_was_set_back_leaves_no_lease_and_no_wait_in_the_future(books: Database) -> None:
    held, fresh, waiting, backing_off = (yb.submit(books) for _ in range(4))
    for _ in range(2):
        yb.claim(books)
    with books.reading() as session:
        moment = read_clock(session)
    yb.write(books, held, heartbeat_at=moment + 7200, lease_expires_at=moment + 7260)
    yb.write(books, waiting, not_before=moment + 7200)
    yb.write(books, backing_off, not_before=moment + 299)
    before = {job_id: yb.look(books, job_id) for job_id in (fresh, backing_off)}
    assert build_reaper(books, Clock()).tick() == [], "its worker may live"
    job = yb.look(books, held)
    assert moment <= job.heartbeat_at < moment + 30
    assert job.lease_expires_at == job.heartbeat_at + 60
    assert yb.look(books, waiting).not_before < moment + 30
    for job_id, job in before.items():
        now = yb.look(books, job_id)
        assert (now.lease_expires_at, now.not_before) == (job.lease_expires_at, job.not_before), "no reason to touch it"


def test_a_database_clock_that_was_set_back_leaves_no_dead_worker_live(books: Database) -> None:
    dead, gone, fresh = (WorkerIdentity(new_id("wrk"), "here", pid, ("cpu",)) for pid in (1, 2, 3))
    with books.writing() as session:
        for worker in (dead, gone, fresh):
            workers.register(session, worker)
        moment = read_clock(session)
        session.execute(update(Worker).where(Worker.id != fresh.id).values(last_seen_at=moment + 7200))
        session.execute(update(Worker).where(Worker.id == gone.id).values(stopped_at=moment + 7200))
        session.execute(update(Worker).where(Worker.id == fresh.id).values(last_seen_at=moment + 59))
    reaper = build_reaper(books, Clock())
    reaper.tick()
    with books.writing() as session:
        assert [workers.count_live(session, pid=worker.pid) for worker in (dead, gone, fresh)] == [0, 0, 1]
        workers.mark_seen(session, dead, draining=False)
    reaper.tick()
    with books.reading() as session:
        assert workers.count_live(session, pid=dead.pid) == 1, "it lived, and has signed again"


def test_a_database_clock_that_was_set_back_leaves_no_place_of_the_queue_in_the_future(books: Database) -> None:
    running, second, third, fresh, old = (yb.submit(books) for _ in range(5))
    lease = yb.claim(books)
    with books.reading() as session:
        moment = read_clock(session)
    ahead_s = {running: 7080, second: 7140, third: 7200, fresh: 59, old: -300}
    for job_id, seconds in ahead_s.items():
        yb.write(books, job_id, queued_at=moment + seconds)
    reaper = build_reaper(books, Clock())
    reaper.tick()
    places = {job_id: yb.look(books, job_id).queued_at - moment for job_id in ahead_s}
    assert (places[fresh], places[old]) == pytest.approx((59, -300)), "no reason to touch them"
    assert 0 <= places[third] < 30
    assert (places[third] - places[second], places[third] - places[running]) == pytest.approx((60, 120))
    reaper.tick()
    assert yb.look(books, third).queued_at - moment == places[third]
    with books.writing() as session:
        leases.end_attempt(session, lease, leases.Ending(stopped="drain"), first_backoff_s=0)
    later = yb.submit(books)
    assert [yb.try_claim(books) for _ in range(5)] == [old, running, second, third, later], "and its place is kept"


class FrozenBell(SilentBell):
    """Does not come back until it is thawed."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.thaw = threading.Event(), threading.Event()

    def waiting(self) -> int:
        self.entered.set()
        self.thaw.wait(60)
        return 0
