"""What the database says of workers' jobs; the rest is tested over HTTP in `tests/api/routes/test_workers.py`."""

from __future__ import annotations

from sqlalchemy import select

from tests.trainyard import rows
from trainyard.database.connection import Database
from trainyard.database.tables import Job
from trainyard.scheduling import workers


def test_a_job_that_is_claimed_after_a_session_has_read_it_is_its_workers(database: Database) -> None:
    """PostgreSQL shows each query of a session what is committed by then; SQLite shows all of them the same."""
    job_id = rows.submit(database)
    with database.reading() as session:
        queued = session.scalars(select(Job)).all()
        rows.claim(database, "wrk_a")
        held = workers.list_held_jobs(session, ["wrk_a"])["wrk_a"]
        assert [job.id for job in queued] == [job_id]
    is_seen = database.engine.dialect.name == "postgresql"
    assert [(job.id, job.state, job.lease_owner) for job in held] == [(job_id, "running", "wrk_a")] * is_seen
