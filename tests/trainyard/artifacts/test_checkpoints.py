from __future__ import annotations

from collections.abc import Callable

import pytest
from sqlalchemy import ColumnElement, insert, select, text

from tests.trainyard import rows as db_rows
from trainyard.artifacts import checkpoints
from trainyard.artifacts.checkpoints import resolve_model
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, Job
from trainyard.errors import CheckpointNotFound, CheckpointPruned, InvalidRequest, NoCheckpointOfJob
from trainyard.states import CheckpointStatus


def resolve(database: Database, reference: str, owner: str = "local") -> str:
    with database.reading() as session:
        return resolve_model(session, owner, reference).id


@pytest.mark.parametrize("question", [checkpoints.is_in_use, checkpoints.is_resumed_from])
def test_who_needs_a_checkpoint_is_found_without_a_look_at_all_jobs(
    database: Database, question: Callable[[], ColumnElement[bool]]
) -> None:
    db_rows.submit(database)
    with database.writing() as session:
        job = session.execute(select(Job.__table__)).mappings().one()
        session.execute(
            insert(Job.metadata.tables[Job.__tablename__]), [{**job, "id": f"job_{number}"} for number in range(3000)]
        )
        session.execute(text("ANALYZE"))
        query = select(Checkpoint.id).where(Checkpoint.job_id == "job_0", question())
        statement = query.compile(session.get_bind(), compile_kwargs={"literal_binds": True})
        explain = "EXPLAIN QUERY PLAN" if session.get_bind().dialect.name == "sqlite" else "EXPLAIN"
        plan = [str(row[-1]) for row in session.connection().exec_driver_sql(f"{explain} {statement}")]
    assert any("ix_jobs_resume_from" in line for line in plan), plan
    assert not [line for line in plan if "SCAN jobs" in line or "Seq Scan on jobs" in line], plan


def test_every_form_of_a_model_reference(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    with pytest.raises(NoCheckpointOfJob):
        resolve(database, job_id)
    best = db_rows.commit(database, lease, 10, is_best=True)
    pruned, before, last = (db_rows.commit(database, lease, step) for step in (20, 30, 40))
    assert resolve(database, job_id) == best
    assert resolve(database, f"{job_id}@latest") == last
    assert resolve(database, f"{job_id}@epoch-3") == before
    assert resolve(database, before) == before
    for reference in (pruned, f"{job_id}@epoch-2"):
        with pytest.raises(CheckpointPruned):
            resolve(database, reference)
    for reference in (f"{job_id}@epoch-9", "ckpt_0", "ckpt_\x00"):
        with pytest.raises(CheckpointNotFound):
            resolve(database, reference)
    for reference in ("", "production!", f"{job_id}@best", f"{job_id}@epoch-", "\x00"):
        with pytest.raises(InvalidRequest):
            resolve(database, reference)
    with pytest.raises(CheckpointNotFound):
        resolve(database, last, owner="bob")


def test_a_corrupt_checkpoint_is_passed_over(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    good, bad = db_rows.commit(database, lease, 10), db_rows.commit(database, lease, 20, is_best=True)
    with database.writing() as session:
        checkpoints.set_aside(session, bad, CheckpointStatus.CORRUPT, "sha256 differs")
        checkpoints.set_aside(session, bad, CheckpointStatus.CORRUPT, "sha256 differs")
        found = checkpoints.find_resumable(session, job_id)
        assert found
        assert found.id == good
    assert resolve(database, "latest") == resolve(database, job_id) == good
