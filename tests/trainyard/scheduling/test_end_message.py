"""The ends of attempts as workers write them; on SQLite, and of all but successes, they are those of `leases`."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.event_tables import YardEvent
from trainyard.database.tables import Job, JobEvent, Outbox
from trainyard.errors import LeaseLost
from trainyard.jobs import jobs
from trainyard.scheduling import leases
from trainyard.scheduling.end_message import end_at_once
from trainyard.scheduling.leases import Ending
from trainyard.states import Desired, JobState

SUCCESS = Ending(succeeded=True, test={"top1": 0.5}, weights_sha256="a" * 64)


def end(database: Database, lease: leases.Lease, ending: Ending = SUCCESS) -> JobState:
    return end_at_once(database, lease, ending, first_backoff_s=1)


def end_slowly(database: Database, lease: leases.Lease, ending: Ending = SUCCESS) -> JobState:
    with database.writing() as session:
        return leases.end_attempt(session, lease, ending, first_backoff_s=1)


@pytest.mark.parametrize("ending", [SUCCESS, Ending(succeeded=True), Ending(failure="trainer_killed")])
def test_an_end_writes_what_the_other_way_writes(database: Database, ending: Ending) -> None:
    written: list[Any] = []
    for way in (end, end_slowly):
        job_id = db_rows.submit(database)
        lease = db_rows.claim(database)
        state = way(database, lease, ending)
        with database.reading() as session:
            job = session.execute(select(Job.__table__).where(Job.id == job_id)).mappings().one()
            events = select(JobEvent.__table__).where(JobEvent.job_id == job_id, JobEvent.seq == 3)
            event = session.execute(events).mappings().one()
            entries = session.scalars(select(YardEvent.kind).where(YardEvent.subject_id == job_id)).all()
            messages = session.scalars(select(Outbox.id).where(Outbox.job_id == job_id)).all()
        assert state is job["state"]
        alike = {name: value for name, value in job.items() if not name.endswith("_at") and name != "not_before"}
        told = {name: value for name, value in event.items() if name != "at"}
        written.append(
            (
                alike | {"id": None, "claim_number": None},
                job["finished_at"] is None,
                told | {"job_id": None},
                entries,
                len(messages),
            )
        )
        db_rows.write(database, job_id, state="succeeded", finished_at=1.0)  # it is not claimed again
    assert written[0] == written[1]


@pytest.mark.parametrize("desired", [Desired.CANCEL, Desired.PAUSE])
def test_a_success_whose_cancel_is_wanted_is_a_cancel_and_a_wanted_pause_comes_too_late(
    database: Database, desired: Desired
) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    db_rows.act(database, jobs.cancel if desired is Desired.CANCEL else jobs.pause, job_id)
    expected = JobState.CANCELLED if desired is Desired.CANCEL else JobState.SUCCEEDED
    assert end(database, lease) is expected
    assert db_rows.look(database, job_id).state is expected


@pytest.mark.parametrize("other", ["epoch", "worker", "ended"])
def test_an_end_after_the_lease_changes_nothing(database: Database, other: str) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    if other == "ended":
        end(database, lease)
    changes: dict[str, dict[str, Any]] = {"epoch": {"lease_epoch": 2}, "worker": {"lease_owner": "wrk_b"}, "ended": {}}
    if changes[other]:
        db_rows.write(database, job_id, **changes[other])
    before = db_rows.look(database, job_id)
    with pytest.raises(LeaseLost):
        end(database, lease)
    after = db_rows.look(database, job_id)
    assert (after.state, after.event_seq, after.finished_at) == (before.state, before.event_seq, before.finished_at)


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_success_is_one_statement_in_a_transaction_of_its_own(database: Database) -> None:
    """What is in no other transaction can't be left half open by a worker that freezes."""
    db_rows.submit(database)
    lease = db_rows.claim(database)
    with db_rows.counting_statements(database) as statements:
        assert end(database, lease) is JobState.SUCCEEDED
    assert len(statements) == 1, statements
