from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import select

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.tables import Job, JobEvent, JobLabel
from trainyard.errors import IllegalTransition, InvalidRequest, JobNotFound
from trainyard.jobs import job_list, jobs
from trainyard.jobs.changes import Changes, change
from trainyard.jobs.job_list import JobFilter
from trainyard.jobs.metadata_index import digest_of
from trainyard.scheduling import leases
from trainyard.states import EventType


def apply(database: Database, job_id: str, owner: str = "local", **wanted: Any) -> Job:
    with database.writing() as session:
        return change(session, owner, job_id, Changes(**wanted))  # type: ignore[typeddict-item]  # any of its keys


def told(database: Database, job_id: str) -> list[Any]:
    with database.reading() as session:
        changed = JobEvent.type == EventType.CHANGED
        return [event.data["fields"] for event in session.scalars(select(JobEvent).where(changed))]


def test_a_change_is_one_transaction_with_its_event(database: Database) -> None:
    job_id = db_rows.submit(database, name="old", metadata={"team": "a", "kept": "no"})
    job = apply(database, job_id, name="new", note="two\nlines", metadata={"team": "b"}, priority=5)
    assert (job.name, job.note, job.labels, job.priority) == ("new", "two\nlines", {"team": "b"}, 5)
    assert told(database, job_id) == [["metadata", "name", "note", "priority"]]
    with database.reading() as session:
        assert list(session.scalars(select(JobLabel.digest))) == [digest_of("team", "b")]
        found = job_list.list_jobs(session, "local", limit=9, wanted=JobFilter(metadata={"team": "b"})).items
        assert [row.id for row in found] == [job_id]
        assert job_list.list_jobs(session, "local", limit=9, wanted=JobFilter(metadata={"team": "a"})).items == []


def test_what_is_left_out_stays_and_null_removes(database: Database) -> None:
    job_id = db_rows.submit(database, name="mine", metadata={"team": "a"})
    apply(database, job_id, note="keep")
    job = apply(database, job_id, name=None)
    assert (job.name, job.note, job.labels) == (None, "keep", {"team": "a"})


def test_a_repetition_writes_nothing(database: Database) -> None:
    job_id = db_rows.submit(database)
    for _ in range(2):
        apply(database, job_id, name="new", metadata={"a": "b"})
    assert told(database, job_id) == [["metadata", "name"]]


def test_another_priority_changes_whose_turn_it_is(database: Database) -> None:
    first, second = db_rows.submit(database), db_rows.submit(database)
    apply(database, second, priority=1)
    assert db_rows.claim(database).job_id == second
    assert db_rows.claim(database).job_id == first


def test_the_priority_of_a_running_or_ended_job_is_refused_and_all_else_is_not(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    with pytest.raises(IllegalTransition, match="is running"):
        apply(database, job_id, priority=1, name="lost with it")
    assert apply(database, job_id, priority=0, name="running").name == "running"
    with database.writing() as session:
        leases.end_attempt(session, lease, leases.Ending(succeeded=True), first_backoff_s=1)
    with pytest.raises(IllegalTransition, match="is succeeded"):
        apply(database, job_id, priority=1)
    assert apply(database, job_id, name="ended").name == "ended"
    assert told(database, job_id) == [["name"], ["name"]]


def test_a_paused_jobs_priority_can_be_changed(database: Database) -> None:
    job_id = db_rows.submit(database)
    with database.writing() as session:
        jobs.pause(session, "local", job_id)
    assert apply(database, job_id, priority=-3).priority == -3


def test_another_owners_job_is_not_there(database: Database) -> None:
    job_id = db_rows.submit(database, "bob")
    with pytest.raises(JobNotFound):
        apply(database, job_id, "alice", name="mine now")
    assert db_rows.look(database, job_id).name is None


@pytest.mark.parametrize("wanted", [{"note": "\0"}, {"name": "\ud800"}, {"metadata": {"a": "\0"}}])
def test_what_cannot_be_stored_is_refused(database: Database, wanted: dict[str, Any]) -> None:
    job_id = db_rows.submit(database)
    with pytest.raises(InvalidRequest, match=next(iter(wanted))):
        apply(database, job_id, **wanted)


def test_of_many_changes_at_once_the_last_one_stands_in_job_and_index(database: Database) -> None:
    job_id = db_rows.submit(database, metadata={"n": "start"})
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: apply(database, job_id, metadata={"n": str(n), "of": "8"}), range(8)))
    job = db_rows.look(database, job_id)
    with database.reading() as session:
        assert set(session.scalars(select(JobLabel.digest))) == {digest_of(*pair) for pair in job.labels.items()}
    assert len(told(database, job_id)) == 8
