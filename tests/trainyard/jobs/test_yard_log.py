from __future__ import annotations

import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
from sqlalchemy import select, text
from sqlalchemy.orm import Session

from tests.postgres import create_database
from tests.trainyard import rows as db_rows
from trainyard.artifacts import deletion
from trainyard.database.connection import Database
from trainyard.database.event_tables import YardEvent
from trainyard.database.schema import migrate
from trainyard.jobs import jobs, yard_log
from trainyard.jobs.changes import Changes, change
from trainyard.jobs.yard_log import list_entries, read_extent, tell, trim
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.leases import Ending, end_attempt
from trainyard.states import JobState, WorkKind, YardEventKind

WRITERS = 8
ON_POSTGRES = pytest.mark.parametrize("database", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)


def told(database: Database, owner: str = "local", after: int = 0) -> list[tuple[str, str]]:
    with database.reading() as session:
        extent = read_extent(session)
        entries = list_entries(session, after=after, upto=extent.complete, limit=1000, owner=owner)
    return [(entry.kind.value, entry.subject_id) for entry in entries]


def write(database: Database, *names: str) -> None:
    with database.writing() as session:
        tell(session, "local", YardEventKind.JOB, *names)


# --- what is told ---


def test_each_change_of_a_job_is_told_in_its_transaction(database: Database) -> None:
    job_id = db_rows.submit(database)
    assert told(database) == [("job", job_id)]
    claimed = claim_at_once(database, "wrk_a", 60)
    assert claimed is not None
    assert told(database) == [("job", job_id)] * 2
    with database.writing() as session:
        change(session, "local", job_id, Changes(name="new"))
        jobs.pause(session, "local", job_id)
    assert told(database) == [("job", job_id)] * 4
    checkpoint_id = db_rows.commit(database, claimed[1], 1)
    assert told(database)[4:] == [("checkpoint", checkpoint_id)]
    with suppress(RuntimeError), database.writing() as session:
        jobs.cancel(session, "local", job_id)
        raise RuntimeError
    assert len(told(database)) == 5
    with database.writing() as session:
        end_attempt(session, claimed[1], Ending(succeeded=True), first_backoff_s=1)
    with database.writing() as session:
        deletion.delete_job(session, "local", job_id)
    assert told(database)[5:] == [("job", job_id), ("gone", job_id)]
    assert told(database, owner="alice") == []


def test_a_prediction_is_not_told(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.write(database, job_id, kind=WorkKind.PREDICT)
    with database.writing() as session:
        jobs.move(session, job_id, JobState.QUEUED, JobState.CANCELLED, reason="cancelled")
    assert told(database) == [("job", job_id)]


# --- numbers ---


def test_a_reader_sees_every_event_once_while_many_write(database: Database) -> None:
    """Transactions commit in another order than they drew their numbers, and some are given up."""
    committed: list[str] = []
    done = threading.Event()

    def keep_writing(writer: int) -> None:
        chance = random.Random(writer)
        for turn in range(25):
            name, gives_up = f"{writer}-{turn}", chance.random() < 0.2
            try:
                with database.writing() as session:
                    tell(session, "local", YardEventKind.JOB, f"{name}-a")
                    time.sleep(chance.random() * 0.01)
                    tell(session, "local", YardEventKind.JOB, f"{name}-b")
                    if gives_up:
                        raise RuntimeError
            except RuntimeError:
                continue
            committed.extend((f"{name}-a", f"{name}-b"))

    def keep_reading() -> tuple[list[int], list[str]]:
        numbers, names, last = [], [], 0
        while True:
            is_last = done.is_set()
            with database.reading() as session:
                upto = max(last, read_extent(session).complete)
                for entry in list_entries(session, after=last, upto=upto, limit=10_000):
                    numbers.append(entry.number)
                    names.append(entry.subject_id)
            last = upto
            if is_last:
                return numbers, names
            time.sleep(0.001)

    with ThreadPoolExecutor(WRITERS + 2) as pool:
        readers = [pool.submit(keep_reading) for _ in range(2)]
        for writer in [pool.submit(keep_writing, number) for number in range(WRITERS)]:
            writer.result()
        done.set()
        for numbers, names in (reader.result() for reader in readers):
            assert numbers == sorted(set(numbers))
            assert sorted(names) == sorted(committed), "some were missed, or came twice"
            assert [name for name in names if name.startswith("3-")] == [
                name for name in committed if name.startswith("3-")
            ]


@ON_POSTGRES
@pytest.mark.parametrize("ends", ["commits", "gives up", "is killed"])
def test_a_reader_waits_for_a_smaller_number_that_is_not_committed(database: Database, ends: str) -> None:
    write(database, "before")
    with database.engine.connect() as slow:
        slow.begin()
        tell(Session(slow), "local", YardEventKind.JOB, "slow")
        write(database, "fast")
        with database.reading() as session:
            assert session.scalars(select(YardEvent.subject_id)).all() == ["before", "fast"], "it is committed"
        assert [name for _, name in told(database)] == ["before"]
        if ends == "commits":
            slow.commit()
        elif ends == "gives up":
            slow.rollback()
        else:
            pid = slow.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]  # psycopg's connection has it
            with database.reading() as session:
                session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
            slow.invalidate()
    expected = ["before", "slow", "fast"] if ends == "commits" else ["before", "fast"]
    assert [name for _, name in told(database)] == expected


@ON_POSTGRES
def test_a_transaction_holds_one_lock_however_many_events_it_writes(database: Database) -> None:
    count = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
    with database.writing() as session:
        assert session.scalar(count) == 0
        for number in range(5):
            tell(session, "local", YardEventKind.JOB, str(number))
            write(database, "between")
        assert session.scalar(count) == 1
    with database.writing() as session:  # on the same connection, and it takes its own
        tell(session, "local", YardEventKind.JOB, "later")
        assert session.scalar(count) == 1
    assert len(told(database)) == 11


@pytest.mark.postgres
def test_the_first_event_of_all_is_waited_for_too(postgres_url: str) -> None:
    database = Database(create_database(postgres_url))
    migrate(database)
    with database.writing() as session:
        tell(session, "local", YardEventKind.JOB, "first")
        assert told(database) == []
        with database.reading() as other:
            extent = read_extent(other)
            assert extent.complete < extent.drawn
    assert told(database) == [("job", "first")]
    database.close()


# --- what is kept ---


def test_only_the_newest_entries_are_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yard_log, "KEPT", 10)
    monkeypatch.setattr(yard_log, "TRIMMED_AT_ONCE", 5)
    for number in range(20):
        write(database, str(number))
    with database.writing() as session:
        assert trim(session) == 0
    write(database, "20")
    with database.writing() as session:
        assert trim(session) == 6
    assert [name for _, name in told(database)] == [str(number) for number in range(6, 21)]
    with database.reading() as session:
        extent = read_extent(session)
    assert [extent.has(extent.drawn + behind) for behind in (1, 0, -10, -11)] == [False, True, True, False]
    write(database, "next")
    assert told(database)[-1] == ("job", "next")
