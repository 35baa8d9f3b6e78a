from __future__ import annotations

import pytest
from sqlalchemy import insert, select, text

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.tables import Job
from trainyard.scheduling import leases
from trainyard.scheduling.held_jobs import find_held, holds
from trainyard.states import WorkKind


def held(database: Database, worker: str, slot: int = 0, kind: WorkKind = WorkKind.TRAIN) -> str | None:
    with database.reading() as session:
        found = find_held(session, worker, slot=slot, kind=kind)
    return found and found[0].id


def test_only_what_runs_in_that_slot_is_found(database: Database) -> None:
    job_id = db_rows.submit(database)
    assert held(database, "wrk_a") is None
    lease = db_rows.claim(database, "wrk_a")
    assert held(database, "wrk_a") == job_id
    assert [held(database, "wrk_b"), held(database, "wrk_a", slot=1)] == [None, None]
    assert held(database, "wrk_a", kind=WorkKind.VALIDATE) is None
    with database.writing() as session:
        leases.end_attempt(session, lease, leases.Ending(succeeded=True), first_backoff_s=1)
    assert held(database, "wrk_a") is None


@pytest.mark.parametrize("knows", [True, False])
def test_it_is_found_without_a_look_at_all_that_run(database: Database, knows: bool) -> None:
    """Right after many claims PostgreSQL's statistics still say that hardly any job runs."""
    db_rows.submit(database)
    db_rows.claim(database, "wrk_0")
    with database.writing() as session:
        job = session.execute(select(Job.__table__)).mappings().one()
        if not knows and session.get_bind().dialect.name == "postgresql":
            session.execute(text("ANALYZE"))
        many = [{**job, "id": f"job_{number}", "lease_owner": f"wrk_{number}"} for number in range(1, 500)]
        session.execute(insert(Job.metadata.tables[Job.__tablename__]), many)
        if knows:
            session.execute(text("ANALYZE"))
        query = select(Job.id).where(holds(Job, "wrk_7", 0, WorkKind.TRAIN))
        statement = query.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if session.get_bind().dialect.name == "sqlite" else "EXPLAIN"
        plan = [str(row[-1]) for row in session.connection().exec_driver_sql(f"{explain} {statement}")]
    assert any("ix_jobs_lease_owner" in line for line in plan), plan
