from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from sqlalchemy import func, select, update

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database, now, read_clock
from trainyard.database.ids import new_id
from trainyard.database.tables import Job, Outbox, Worker
from trainyard.scheduling import leases, workers
from trainyard.scheduling.queue import SilentWaker
from trainyard.scheduling.workers import WorkerIdentity
from trainyard.settings import Settings
from trainyard.storage.local import LocalStorage
from trainyard.upkeep import reconciler as reconciler_module
from trainyard.upkeep.reconciler import Reaper, Reconciler, Relay


class Clock:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


class DeafWaker(SilentWaker):
    """Its messages pile up."""

    def waiting(self) -> int:
        return self.wake_ups


def words(database: Database) -> int:
    with database.reading() as session:
        return session.scalar(select(func.count()).select_from(Outbox)) or 0


def build_reaper(database: Database, clock: Clock) -> Reaper:
    return Reaper(database, interval_s=10, lease_ttl_s=60, first_backoff_s=0, clock=clock)


def test_the_outbox_is_kept_while_the_queue_is_down(database: Database) -> None:
    db_rows.submit(database)
    waker, clock = SilentWaker(), Clock()
    relay = Relay(database, waker, wake_again_s=15, clock=clock)
    waker.broken = True
    relay.tick()
    assert (words(database), relay.queue_is_up) == (1, False)
    waker.broken = False
    clock.at += 3
    relay.tick()
    assert (words(database), waker.wake_ups, relay.queue_is_up) == (0, 1, True)


def test_a_job_that_nobody_claimed_is_announced_again(database: Database) -> None:
    job_id = db_rows.submit(database)
    waker, clock = SilentWaker(), Clock()
    relay = Relay(database, waker, wake_again_s=15, clock=clock)
    relay.tick()
    clock.at += 16
    relay.tick()
    assert waker.wake_ups == 1, "it was queued just now"
    db_rows.write(database, job_id, queued_at=1.0)
    clock.at += 16
    relay.tick()
    assert waker.wake_ups == 2


def test_no_more_than_twice_the_slots_are_rung(database: Database) -> None:
    for _ in range(10):
        db_rows.submit(database)
    waker = DeafWaker()
    Relay(database, waker, wake_again_s=15, clock=Clock()).tick()
    assert (waker.wake_ups, words(database)) == (2, 0)


def test_a_job_that_waits_for_its_next_try_is_rung_for_when_it_is_due(database: Database) -> None:
    job_id = db_rows.submit(database)
    with database.writing() as session:
        session.execute(update(Job).where(Job.id == job_id).values(not_before=now() + 100))
    waker = SilentWaker()
    relay = Relay(database, waker, wake_again_s=15, clock=Clock())
    relay.tick()
    assert (waker.wake_ups, words(database)) == (0, 1)
    db_rows.write(database, job_id, not_before=0)
    relay.tick()
    assert (waker.wake_ups, words(database)) == (1, 0)


def test_the_reaper_takes_back_what_expired_and_nothing_else(database: Database) -> None:
    dead, _alive = db_rows.submit(database), db_rows.submit(database)
    db_rows.claim(database)
    db_rows.claim(database, "wrk_b")
    db_rows.write(database, dead, lease_expires_at=1.0)
    assert build_reaper(database, Clock()).tick() == [dead]


def test_a_reaper_that_was_late_gives_grace_once(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    clock = Clock()
    reaper = build_reaper(database, clock)
    reaper.tick()
    db_rows.write(database, job_id, lease_expires_at=1.0)
    clock.at += 21
    assert reaper.tick() == []
    db_rows.write(database, job_id, lease_expires_at=1.0)
    clock.at += 10
    assert reaper.tick() == [job_id]


def test_a_reaper_that_began_while_the_database_was_away_gives_grace_once(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    clock = Clock()
    reaper = build_reaper(database, clock)
    db_rows.write(database, job_id, lease_expires_at=1.0, heartbeat_at=1.0)
    clock.at += 21
    assert reaper.tick() == []
    db_rows.write(database, job_id, lease_expires_at=1.0)
    clock.at += 10
    assert reaper.tick() == [job_id]


def test_a_reaper_that_is_always_late_still_takes_a_dead_workers_job(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    clock = Clock()
    reaper = build_reaper(database, clock)
    reaper.tick()
    db_rows.write(database, job_id, lease_expires_at=1.0, heartbeat_at=1.0)
    clock.at += 21
    assert reaper.tick() == [job_id]


def test_a_frozen_queue_does_not_hold_up_the_reaper(database: Database, tmp_path: Path) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    db_rows.write(database, job_id, lease_expires_at=1.0)
    waker = FrozenWaker()
    reconciler = Reconciler(Settings(reaper_s=0.05), database, waker, LocalStorage(tmp_path))
    reconciler.start()
    try:
        assert waker.entered.wait(60)
        deadline = time.monotonic() + 60
        while db_rows.look(database, job_id).state == "running" and time.monotonic() < deadline:
            time.sleep(0.02)
    finally:
        waker.thaw.set()
        reconciler.stop()
    assert db_rows.look(database, job_id).state_reason == "lease_lost"


class SlowSweep:
    """Takes as long as a test wants it to."""

    def __init__(self) -> None:
        self.entered, self.done = threading.Event(), threading.Event()

    def tick(self) -> None:
        self.entered.set()
        self.done.wait(60)


def test_a_slow_sweep_does_not_hold_up_the_reaper(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    sweep = SlowSweep()
    monkeypatch.setattr("trainyard.upkeep.reconciler.Garbage", lambda *args, **options: sweep)
    reconciler = Reconciler(Settings(reaper_s=0.05), database, SilentWaker(), LocalStorage(tmp_path))
    reconciler.start()
    try:
        assert sweep.entered.wait(60)
        db_rows.write(database, job_id, lease_expires_at=1.0, heartbeat_at=1.0)
        deadline = time.monotonic() + 60
        while db_rows.look(database, job_id).state == "running" and time.monotonic() < deadline:
            time.sleep(0.02)
        state_reason = db_rows.look(database, job_id).state_reason
    finally:
        sweep.done.set()
        reconciler.stop()
    assert state_reason == "lease_lost"


def test_the_end_does_not_wait_for_a_frozen_queue(database: Database, tmp_path: Path) -> None:
    db_rows.submit(database)
    waker = FrozenWaker()
    reconciler = Reconciler(Settings(), database, waker, LocalStorage(tmp_path))
    reconciler.start()
    assert waker.entered.wait(60)
    begun = time.monotonic()
    reconciler.stop()
    took_s = time.monotonic() - begun
    waker.thaw.set()
    assert not reconciler.is_alive()
    assert took_s < 14, "it waited for the queue"


class Told:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.leases, self.queue = 0, list[bool]()

    def leases_lost(self, count: int) -> None:
        self.leases += count

    def queue_answers(self, up: bool) -> None:
        self.queue.append(up)


def test_an_observer_is_told_of_lost_leases_and_of_the_queue(database: Database) -> None:
    told, waker, clock = Told(), SilentWaker(), Clock()
    for _ in range(2):
        db_rows.submit(database)
        db_rows.claim(database, ttl_s=-1)
    reaper = Reaper(database, interval_s=10, lease_ttl_s=60, first_backoff_s=0, observer=told, clock=clock)
    reaper.tick()
    reaper.tick()
    assert told.leases == 2
    relay = Relay(database, waker, wake_again_s=15, observer=told, clock=clock)
    for broken in (True, True, False, False):
        waker.broken = broken
        clock.at += 3
        relay.tick()
    assert told.queue == [False, True]


def test_several_reapers_at_once_take_a_job_back_once(database: Database) -> None:
    made = [db_rows.submit(database) for _ in range(6)]
    for _ in made:
        db_rows.claim(database)
    for job_id in made:
        db_rows.write(database, job_id, lease_expires_at=1.0)
    reapers = [build_reaper(database, Clock()) for _ in range(4)]
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
        job = db_rows.look(database, job_id)
        assert (job.state, job.failures, job.event_seq) == ("queued", 1, 3)


def test_relays_at_once_lose_no_word(database: Database) -> None:
    made = [db_rows.submit(database) for _ in range(2)]
    wakers = [SilentWaker() for _ in range(3)]
    relays = [Relay(database, waker, wake_again_s=15, clock=Clock()) for waker in wakers]
    threads = [threading.Thread(target=relay.tick) for relay in relays]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert words(database) == 0
    assert sum(waker.wake_ups for waker in wakers) >= len(made)


def test_a_database_clock_that_jumped_gives_grace_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    reaper = build_reaper(database, Clock())
    jump = 0.0
    monkeypatch.setattr(reconciler_module, "read_clock", lambda session: read_clock(session) + jump)
    reaper.tick()
    jump = 3600.0
    assert reaper.tick() == [], "every lease looks expired, but the clock was set"
    assert db_rows.look(database, job_id).state == "running"


def test_a_database_clock_that_was_set_back_leaves_no_lease_and_no_wait_in_the_future(database: Database) -> None:
    held, fresh, waiting, backing_off = (db_rows.submit(database) for _ in range(4))
    for _ in range(2):
        db_rows.claim(database)
    with database.reading() as session:
        moment = read_clock(session)
    db_rows.write(database, held, heartbeat_at=moment + 7200, lease_expires_at=moment + 7260)
    db_rows.write(database, waiting, not_before=moment + 7200)
    db_rows.write(database, backing_off, not_before=moment + 299)
    before = {job_id: db_rows.look(database, job_id) for job_id in (fresh, backing_off)}
    assert build_reaper(database, Clock()).tick() == [], "its worker may live"
    job = db_rows.look(database, held)
    assert job.heartbeat_at is not None
    assert moment <= job.heartbeat_at < moment + 30
    assert job.lease_expires_at == job.heartbeat_at + 60
    assert db_rows.look(database, waiting).not_before < moment + 30
    for job_id, job in before.items():
        now = db_rows.look(database, job_id)
        assert (now.lease_expires_at, now.not_before) == (job.lease_expires_at, job.not_before), "no reason to touch it"


def test_a_database_clock_that_was_set_back_leaves_no_dead_worker_live(database: Database) -> None:
    dead, gone, fresh = (WorkerIdentity(new_id("wrk"), "here", pid, ("cpu",)) for pid in (1, 2, 3))
    with database.writing() as session:
        for worker in (dead, gone, fresh):
            workers.register(session, worker)
        moment = read_clock(session)
        session.execute(update(Worker).where(Worker.id != fresh.id).values(last_seen_at=moment + 7200))
        session.execute(update(Worker).where(Worker.id == gone.id).values(stopped_at=moment + 7200))
        session.execute(update(Worker).where(Worker.id == fresh.id).values(last_seen_at=moment + 59))
    reaper = build_reaper(database, Clock())
    reaper.tick()
    with database.writing() as session:
        assert [workers.count_live(session, pid=worker.pid) for worker in (dead, gone, fresh)] == [0, 0, 1]
        workers.mark_seen(session, dead, draining=False)
    reaper.tick()
    with database.reading() as session:
        assert workers.count_live(session, pid=dead.pid) == 1, "it lived, and has signed again"
        stopped_at = session.scalar(select(Worker.stopped_at).where(Worker.id == gone.id))
        assert stopped_at is not None
        assert stopped_at < moment + 60, "it would else be listed for two hours more"


def test_a_database_clock_that_was_set_back_leaves_no_place_of_the_queue_in_the_future(database: Database) -> None:
    running, second, third, fresh, old = (db_rows.submit(database) for _ in range(5))
    lease = db_rows.claim(database)
    with database.reading() as session:
        moment = read_clock(session)
    ahead_s = {running: 7080, second: 7140, third: 7200, fresh: 59, old: -300}
    for job_id, seconds in ahead_s.items():
        db_rows.write(database, job_id, queued_at=moment + seconds)
    reaper = build_reaper(database, Clock())
    reaper.tick()
    places = {job_id: db_rows.look(database, job_id).queued_at - moment for job_id in ahead_s}
    assert (places[fresh], places[old]) == pytest.approx((59, -300)), "no reason to touch them"
    assert 0 <= places[third] < 30
    assert (places[third] - places[second], places[third] - places[running]) == pytest.approx((60, 120))
    reaper.tick()
    assert db_rows.look(database, third).queued_at - moment == places[third]
    with database.writing() as session:
        leases.end_attempt(session, lease, leases.Ending(stopped="drain"), first_backoff_s=0)
    later = db_rows.submit(database)
    assert [db_rows.try_claim(database) for _ in range(5)] == [old, running, second, third, later], (
        "and its place is kept"
    )


class FrozenWaker(SilentWaker):
    """Does not come back until it is thawed."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.thaw = threading.Event(), threading.Event()

    def waiting(self) -> int:
        self.entered.set()
        self.thaw.wait(60)
        return 0
