"""Claims in one message, as workers make them; on SQLite they are those of `leases.claim`."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from tests.trainyard import rows as db_rows
from tests.trainyard.scheduling.test_claim_order import add_jobs, described_jobs, predict_claims, require_turns_kept
from trainyard.database.connection import Database
from trainyard.database.tables import Job, JobEvent
from trainyard.errors import DatabaseUnavailable
from trainyard.logs import request_id
from trainyard.scheduling import claim_message, leases
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.states import EventType, ShownState, WorkKind

ON_POSTGRES = pytest.mark.parametrize("database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)

ODD = 'it\'s {5} \\ of 100 % "é"'  # as no request's id is


def take(database: Database, slot: int = 0, limit: int | None = None, worker: str = "wrk_a") -> str | None:
    claimed = claim_at_once(database, worker, 60, slot=slot, max_running_per_owner=limit)
    return claimed and claimed[0].id


def take_in_thread(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=described_jobs(), limit=st.sampled_from([None, 1, 2, 3]))
def test_claims_come_in_the_order_that_the_rule_says(
    database: Database, rows: list[dict[str, Any]], limit: int | None
) -> None:
    add_jobs(database, *rows)
    taken: list[str] = []
    while (job_id := take(database, len(taken), limit)) is not None:
        taken.append(job_id)
    assert taken == predict_claims(rows, limit)


def test_a_claim_writes_what_the_other_way_writes(database: Database) -> None:
    db_rows.submit(database)
    db_rows.submit(database)
    token = request_id.set(ODD)
    with database.writing() as session:
        slowly = leases.claim(session, "wrk_a", 60, slot=3)
    at_once = claim_at_once(database, "wrk_a", 60, slot=4)
    request_id.reset(token)
    assert slowly
    assert at_once
    rows, columns = [], {column.name for column in Job.__table__.columns}
    for job, lease in (slowly, at_once):
        assert (lease.job_id, lease.worker_id, lease.lease_epoch) == (job.id, "wrk_a", 1)
        assert job.its_dataset.name == "digits"
        stored = db_rows.look(database, job.id)
        assert (stored.heartbeat_at or 0) + 60 == pytest.approx(stored.lease_expires_at, abs=0.1)
        assert stored.started_at == pytest.approx(stored.heartbeat_at, abs=0.1)
        with database.reading() as session:
            event = session.scalars(select(JobEvent).where(JobEvent.job_id == job.id, JobEvent.seq == 2)).one()
        told = (event.type, event.state, event.reason, event.lease_epoch, event.worker_id, event.request_id, event.data)
        assert told == (EventType.STATE, ShownState.RUNNING, "claimed", 1, "wrk_a", ODD, {})
        assert event.at == pytest.approx(stored.heartbeat_at, abs=0.1)
        unlike = {"id", "slot", "claim_number", "metadata"} | {name for name in columns if name.endswith("_at")}
        rows.append({name: getattr(stored, name) for name in columns - unlike})
    assert rows[0] == rows[1]
    assert [db_rows.look(database, job.id).claim_number for job, _ in (slowly, at_once)] == [1, 2]


@pytest.mark.parametrize("steps", [40, 3, 0, None])
@pytest.mark.parametrize("saved", [10, None])
def test_the_progress_of_a_job_that_goes_on_is_the_same_either_way(
    database: Database, steps: int | None, saved: int | None
) -> None:
    progress = {"step": 17, "epoch": 2, "epochs": 4, "fraction": 0.4, "images_per_s": 5.5, "eta_s": 1.0}
    shown = []
    for way in ("slowly", "at once"):
        job_id = db_rows.submit(database)
        lease = db_rows.claim(database)
        if saved is not None:
            db_rows.commit(database, lease, saved)
        db_rows.write(database, job_id, progress=progress | ({} if steps is None else {"steps": steps}))
        with database.writing() as session:
            leases.end_attempt(session, lease, leases.Ending(stopped="drain"), first_backoff_s=1)
        if way == "slowly":
            assert db_rows.try_claim(database) == job_id
        else:
            assert take(database) == job_id
        shown.append(db_rows.look(database, job_id).progress)
        db_rows.write(database, job_id, state="succeeded", finished_at=1.0)
    assert shown[0] == shown[1]
    assert shown[0] is not None
    assert (shown[0]["step"], shown[0]["images_per_s"]) == (saved or 0, None)


@ON_POSTGRES
def test_a_claim_is_one_message_and_nothing_else_comes_while_it_holds_up_others(database: Database) -> None:
    db_rows.submit(database)
    with db_rows.counting_statements(database) as statements:
        assert take(database)
    assert len(statements) == 2, statements
    assert "pg_advisory_xact_lock" in statements[0]
    assert statements[1].startswith("SELECT"), "the slot's job is read after the claim was committed"


@ON_POSTGRES
def test_a_slot_that_has_a_job_gets_that_one_and_no_second(database: Database) -> None:
    """Its answer was lost, and the worker asks again; or the first message arrives after the second one."""
    first, second = add_jobs(database, {"queued_at": 1.0}, {"queued_at": 2.0})
    assert [take(database), take(database)] == [first, first]
    assert take(database, slot=1) == second
    assert db_rows.look(database, first).attempt == 1


def test_a_job_whose_row_somebody_else_holds_is_passed_over(database: Database) -> None:
    first, second = add_jobs(database, {"queued_at": 1.0}, {"queued_at": 2.0})
    if database.engine.dialect.name == "sqlite":  # nobody else can hold a row there
        db_rows.write(database, first, desired="pause")
        assert take(database) == second
        return
    with database.writing() as session:
        session.execute(select(Job.id).where(Job.id == first).with_for_update())
        assert take(database) == second
        assert take(database, slot=1) is None


def test_a_claim_waits_for_one_that_is_not_committed_and_sees_what_it_took(database: Database) -> None:
    add_jobs(database, {"owner": "a"}, {"owner": "a"})
    taken: list[str | None] = []
    with database.writing() as session:
        assert leases.claim(session, "wrk_b", 60, max_running_per_owner=1)
        db_rows.allow_silence(session)
        second = take_in_thread(lambda: taken.append(take(database, limit=1)))
        second.join(0.3)  # as long as it waits for us, this does not end it
        assert second.is_alive()
    second.join()
    assert taken == [None]


def test_many_at_once_keep_the_order_of_owners_and_their_limit(database: Database) -> None:
    require_turns_kept(
        database, lambda worker, slot: claim_at_once(database, worker, 60, slot=slot, max_running_per_owner=6)
    )


@ON_POSTGRES
def test_a_turn_that_does_not_come_in_time_is_given_up_by_the_server(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = add_jobs(database, {"queued_at": 1.0}, {"queued_at": 2.0})
    monkeypatch.setattr(claim_message, "TURN_WITHIN_S", 0.2)
    with database.writing() as session:
        assert leases.claim(session, "wrk_b", 60)
        db_rows.allow_silence(session)
        with pytest.raises(DatabaseUnavailable):
            take(database)
        session.rollback()
    assert db_rows.look(database, first).state == "queued"
    assert take(database) == first, "the connection is as before"


@contextmanager
def sent_by_a_frozen_worker(database: Database) -> Iterator[Any]:
    """Inside, a worker has sent its claim and does nothing more: not even take the answer. Yields its connection."""
    with database.engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        driver.pgconn.send_query(claim_message._build_message("wrk_frozen", 60, 0, None, WorkKind.TRAIN).encode())
        yield driver
        connection.invalidate()


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def is_waiting(database: Database) -> bool:
    with database.reading() as session:
        return bool(session.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


def state_of(database: Database, backend_pid: int) -> str | None:
    """What a connection does, by the server; None: it has ended."""
    with database.reading() as session:
        found: str | None = session.scalar(text(f"SELECT state FROM pg_stat_activity WHERE pid = {backend_pid}"))
        return found


@ON_POSTGRES
def test_a_worker_that_froze_after_its_message_holds_up_nobody(database: Database) -> None:
    first, second = add_jobs(database, {"queued_at": 1.0}, {"queued_at": 2.0})
    with sent_by_a_frozen_worker(database) as driver:
        wait_until(lambda: db_rows.look(database, first).lease_owner == "wrk_frozen")
        assert take(database) == second
        assert state_of(database, driver.info.backend_pid) == "idle", "the server had to end no transaction of its"


@ON_POSTGRES
def test_a_worker_that_is_gone_before_its_turn_gets_no_job(database: Database) -> None:
    first, second = add_jobs(database, {"queued_at": 1.0}, {"queued_at": 2.0})
    with database.writing() as session:
        assert leases.claim(session, "wrk_b", 60)
        db_rows.allow_silence(session)
        with sent_by_a_frozen_worker(database) as driver:
            wait_until(lambda: is_waiting(database))
            driver.close()
            wait_until(lambda: not is_waiting(database))
    assert db_rows.look(database, first).lease_owner == "wrk_b"
    assert take(database) == second
