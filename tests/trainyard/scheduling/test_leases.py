from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import update

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database, now, read_clock
from trainyard.database.tables import Job
from trainyard.errors import LeaseLost
from trainyard.scheduling import leases
from trainyard.scheduling.leases import Ending
from trainyard.states import JobState


def end(database: Database, lease: leases.Lease, **ending: Any) -> JobState:
    with database.writing() as session:
        return leases.end_attempt(session, lease, Ending(**ending), first_backoff_s=2)


@pytest.mark.parametrize(
    ("desired", "ending", "state", "reason", "failures"),
    [
        ("run", {"succeeded": True}, "succeeded", "finished", 0),
        ("pause", {"succeeded": True}, "succeeded", "finished", 0),
        ("cancel", {"succeeded": True}, "cancelled", "cancelled", 0),
        ("cancel", {"stopped": "cancel"}, "cancelled", "cancelled", 0),
        ("cancel", {"failure": "trainer_killed"}, "cancelled", "cancelled", 0),
        ("cancel", {"failure": "diverged"}, "cancelled", "cancelled", 0),
        ("pause", {"stopped": "pause"}, "paused", "paused", 0),
        ("run", {"stopped": "drain"}, "queued", "drain", 0),
        ("pause", {"stopped": "drain"}, "paused", "paused", 0),
        ("run", {"failure": "trainer_killed"}, "queued", "trainer_killed", 1),
        ("pause", {"failure": "trainer_killed"}, "paused", "trainer_killed", 1),
        ("run", {"failure": "hung"}, "queued", "hung", 1),
        ("run", {"failure": "disk_full"}, "queued", "disk_full", 0),
        ("run", {"failure": "checkpoint_corrupt"}, "queued", "checkpoint_corrupt", 0),
        ("run", {"failure": "diverged"}, "failed", "diverged", 0),
        ("pause", {"failure": "out_of_memory"}, "failed", "out_of_memory", 0),
        ("run", {"failure": "nobody_knows_this"}, "queued", "internal_error", 1),
    ],
)
def test_the_verdict(
    database: Database, desired: str, ending: dict[str, Any], state: str, reason: str, failures: int
) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    db_rows.write(database, job_id, desired=desired)
    assert end(database, lease, **ending) == state
    job = db_rows.look(database, job_id)
    assert (job.state, job.state_reason, job.failures) == (state, reason, failures)
    assert job.lease_owner is None
    assert (job.error is not None) == (state == "failed")
    assert (job.finished_at is not None) == JobState(state).is_final
    with pytest.raises(LeaseLost):
        end(database, lease, succeeded=True)


def test_three_failures_without_a_new_step_end_in_a_crash_loop(database: Database) -> None:
    job_id = db_rows.submit(database)
    for _ in range(3):
        db_rows.write(database, job_id, not_before=0)
        end(database, db_rows.claim(database), failure="trainer_killed", message="signal 9")
    job = db_rows.look(database, job_id)
    assert (job.state, job.state_reason) == ("failed", "crash_loop")
    assert job.error
    assert "signal 9" in job.error["message"]


def test_a_newly_committed_step_resets_the_failures_and_an_old_one_does_not(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.commit(database, db_rows.claim(database), 10)
    db_rows.write(database, job_id, state="queued", failures=2)
    lease = db_rows.claim(database)
    db_rows.commit(database, lease, 10)
    assert db_rows.look(database, job_id).failures == 2
    db_rows.commit(database, lease, 11)
    assert db_rows.look(database, job_id).failures == 0


def test_disk_full_never_ends_in_a_crash_loop(database: Database) -> None:
    job_id = db_rows.submit(database)
    for _ in range(5):
        db_rows.write(database, job_id, not_before=0)
        end(database, db_rows.claim(database), failure="disk_full")
    assert db_rows.look(database, job_id).state == "queued"
    assert db_rows.try_claim(database) is None, "it waits for room"


def test_claims_go_by_priority_then_by_waiting_time(database: Database) -> None:
    first, second, urgent, later = (db_rows.submit(database) for _ in range(4))
    db_rows.write(database, urgent, priority=5)
    with database.writing() as session:
        session.execute(update(Job).where(Job.id == later).values(not_before=now() + 100))
    assert [db_rows.try_claim(database) for _ in range(4)] == [urgent, first, second, None]


def test_concurrent_claimers_never_share_a_job(database: Database) -> None:
    expected = {db_rows.submit(database) for _ in range(12)}
    taken: list[str] = []
    barrier = threading.Barrier(4)

    def work(worker: str) -> None:
        barrier.wait()
        while (job_id := db_rows.try_claim(database, worker)) is not None:
            taken.append(job_id)

    threads = [threading.Thread(target=work, args=(f"wrk_{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(expected)


def test_every_write_of_a_reaped_worker_is_refused(database: Database) -> None:
    job_id = db_rows.submit(database)
    old = db_rows.claim(database)
    db_rows.write(database, job_id, lease_expires_at=1.0)
    with database.writing() as session:
        assert leases.reap(session, read_clock(session), first_backoff_s=0) == [job_id]
    assert db_rows.look(database, job_id).state_reason == "lease_lost"
    for claimed_again in (False, True):
        if claimed_again:
            assert db_rows.claim(database, "wrk_a").lease_epoch == old.lease_epoch + 1
        with pytest.raises(LeaseLost), database.writing() as session:
            leases.heartbeat(session, old, 60)
        with pytest.raises(LeaseLost):
            db_rows.commit(database, old, 10)
        with pytest.raises(LeaseLost):
            end(database, old, succeeded=True)
    assert db_rows.statuses(database) == {}


def test_a_lease_that_was_alive_when_the_reaper_looked_is_kept(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    with database.writing() as session:
        moment = read_clock(session)
    db_rows.write(database, job_id, lease_expires_at=moment + 1e-6)  # over by now, but not at that moment
    with database.writing() as session:
        assert leases.reap(session, moment, first_backoff_s=0) == []


def test_a_heartbeat_extends_the_lease_and_reads_the_wish(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database, ttl_s=1)
    db_rows.write(database, job_id, desired="pause")
    before = db_rows.look(database, job_id).lease_expires_at or 0
    with database.writing() as session:
        assert leases.heartbeat(session, lease, 100, progress={"step": 3}) == "pause"
    job = db_rows.look(database, job_id)
    assert (job.lease_expires_at or 0) > before + 90
    assert job.progress == {"step": 3}


@pytest.mark.parametrize(("desired", "state"), [("run", "queued"), ("cancel", "cancelled"), ("pause", "paused")])
def test_the_reaper_honours_what_the_owner_wants(database: Database, desired: str, state: str) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    db_rows.write(database, job_id, desired=desired, lease_expires_at=1.0)
    with database.writing() as session:
        leases.reap(session, read_clock(session), first_backoff_s=0)
    assert db_rows.look(database, job_id).state == state


PROGRESS: dict[str, Any] = {
    "epoch": 3, "epochs": 5, "step": 33, "steps": 50, "fraction": 0.66, "images_per_s": 9.0, "eta_s": 2.0,
}  # fmt: skip


@pytest.mark.parametrize(("saved", "expected"), [([20, 30], (30, 3, 0.6)), ([], (0, 0, 0.0))])
def test_a_job_that_is_claimed_again_shows_where_it_will_go_on_and_not_where_the_last_attempt_was(
    database: Database, saved: list[int], expected: tuple[int, int, float]
) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    for step in saved:
        db_rows.commit(database, lease, step)
    with database.writing() as session:
        leases.heartbeat(session, lease, 60, progress=PROGRESS)
    with database.writing() as session:
        leases.end_attempt(session, lease, Ending(failure="trainer_killed"), first_backoff_s=0)
    job = db_rows.look(database, job_id)
    assert (job.attempt, job.progress) == (1, PROGRESS)
    db_rows.claim(database)
    job = db_rows.look(database, job_id)
    assert (job.attempt, job.state) == (2, JobState.RUNNING)
    assert job.progress is not None
    assert (job.progress["step"], job.progress["epoch"], job.progress["fraction"]) == expected
    assert (job.progress["steps"], job.progress["epochs"]) == (50, 5)
    assert (job.progress["images_per_s"], job.progress["eta_s"]) == (None, None)


def test_a_job_that_is_claimed_for_the_first_time_has_no_progress(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.claim(database)
    assert db_rows.look(database, job_id).progress is None
