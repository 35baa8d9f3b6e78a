from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import ColumnElement, insert, select, text

from alexnet_core.layout import CheckpointKind
from tests.trainyard import rows as db_rows
from trainyard.artifacts import checkpoints, retries
from trainyard.artifacts.checkpoints import get_latest, resolve_model
from trainyard.database.connection import Database, now
from trainyard.database.tables import Alias, Checkpoint, Dataset, Job
from trainyard.errors import CheckpointNotFound, CheckpointPruned, InvalidRequest, NoCheckpoint, NoCheckpointOfJob
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling.leases import Lease, write_fenced
from trainyard.states import CheckpointStatus


def resolve(database: Database, reference: str, owner: str = "local") -> str:
    with database.reading() as session:
        return resolve_model(session, owner, reference).id


def test_retention_keeps_best_latest_two_and_aliased(database: Database) -> None:
    db_rows.submit(database)
    lease = db_rows.claim(database)
    aliased = db_rows.commit(database, lease, 10)
    with database.writing() as session:
        session.add(Alias(owner="local", name="production", checkpoint_id=aliased, updated_at=now()))
    best = db_rows.commit(database, lease, 20, is_best=True)
    plain = [db_rows.commit(database, lease, step) for step in (30, 40, 50)]
    kept = {key for key, status in db_rows.statuses(database).items() if status == "committed"}
    assert kept == {aliased, best, *plain[1:]}
    with database.reading() as session:
        stateful = {c.id for c in session.query(Checkpoint) if c.status == "committed" and not c.state_pruned_at}
        assert stateful == set(plain[1:]), "only where the job may go on from"


def test_a_recovery_checkpoint_goes_when_a_newer_one_commits(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    recovery = db_rows.commit(database, lease, 5, kind=CheckpointKind.RECOVERY)
    with database.reading() as session:
        found = checkpoints.find_resumable(session, job_id)
        assert found
        assert (found.id, found.publication) == (recovery, None)
    epoch = db_rows.commit(database, lease, 10)
    assert db_rows.statuses(database) == {recovery: "pruned", epoch: "committed"}


def test_publications_rise_and_latest_follows(database: Database) -> None:
    db_rows.submit(database)
    db_rows.submit(database)
    one, two = db_rows.claim(database), db_rows.claim(database, "wrk_b")
    with pytest.raises(NoCheckpoint):
        resolve(database, "latest")
    for lease, step in ((one, 10), (two, 10), (one, 20)):
        committed = db_rows.commit(database, lease, step)
        assert resolve(database, "latest") == committed
    db_rows.commit(database, two, 15, kind=CheckpointKind.RECOVERY)
    assert resolve(database, f"{one.job_id}@latest") == resolve(database, "latest") == committed
    with database.reading() as session:
        numbers = [c.publication for c in session.query(Checkpoint).order_by(Checkpoint.created_at) if c.publication]
    assert numbers == [1, 2, 3]


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_commit_that_is_not_over_holds_up_no_other_and_latest_never_falls(database: Database) -> None:
    db_rows.submit(database)
    db_rows.submit(database)
    slow, quick = db_rows.claim(database), db_rows.claim(database, "wrk_b")
    seen = [0]

    def look() -> None:
        with database.reading() as session:
            seen.append(get_latest(session, "local").publication or 0)

    with database.writing() as session:
        late_id = checkpoints.commit_checkpoint(session, slow, db_rows.new_checkpoint(slow, 10), keep_latest=2)
        late = session.get_one(Checkpoint, late_id)
        began = time.monotonic()
        newest = db_rows.commit(database, quick, 10)  # would wait for the other one's number
        assert time.monotonic() - began < 5
        look()
        assert resolve(database, "latest") == newest
    assert late.publication is not None
    look()
    assert resolve(database, "latest") == newest, "the number that was drawn first is not the newest"
    assert late.publication < seen[-1]
    db_rows.commit(database, slow, 20)
    look()
    assert seen == sorted(seen)


def test_latest_never_goes_backwards_while_many_commit_at_once(database: Database) -> None:
    for _ in range(6):
        db_rows.submit(database)
    held = [db_rows.claim(database, f"wrk_{number}") for number in range(6)]
    seen: list[int] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            with database.reading() as session, contextlib.suppress(NoCheckpoint):
                seen.append(get_latest(session, "local").publication or 0)

    def commit_five(lease: Lease) -> None:
        for step in range(10, 60, 10):
            db_rows.commit(database, lease, step)

    watching = threading.Thread(target=watch)
    committing = [threading.Thread(target=commit_five, args=(lease,)) for lease in held]
    for thread in [watching, *committing]:
        thread.start()
    for thread in committing:
        thread.join()
    is_over.set()
    watching.join()
    assert seen == sorted(seen)
    with database.reading() as session:
        rows = session.execute(select(Checkpoint.job_id, Checkpoint.step, Checkpoint.publication)).all()
    assert sorted(row.publication for row in rows) == list(range(1, 31))
    for lease in held:
        own = sorted((row.step, row.publication) for row in rows if row.job_id == lease.job_id)
        assert [number for _, number in own] == sorted(number for _, number in own), "of one job they rise with it"


def test_a_commit_takes_few_statements(database: Database) -> None:
    """All of a fleet may commit at the same moment."""
    db_rows.submit(database)
    lease = db_rows.claim(database)
    counts = []
    for step in (10, 20, 30, 40):
        with db_rows.counting_statements(database) as statements:
            db_rows.commit(database, lease, step, is_best=True)
        counts.append(len(statements) - statements.count("BEGIN IMMEDIATE"))
    # on SQLite an event, its entry in the yard's log, a number and the row are statements of their own
    writes = 4 if database.engine.dialect.name == "sqlite" else 0
    assert counts[:2] == [3 + writes] * 2, "nothing is pruned: nobody is asked who needs it"
    assert max(counts) == 4 + writes, counts


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


@pytest.mark.parametrize("use", ["init_from", "resume_from"])
def test_a_commit_that_meets_a_job_which_begins_with_a_checkpoint_keeps_it(database: Database, use: str) -> None:
    """The job's transaction has locked the checkpoint, and names it once the commit waits for that lock."""
    db_rows.submit(database)
    lease = db_rows.claim(database)
    wanted, _ = db_rows.commit(database, lease, 10), db_rows.commit(database, lease, 20)
    committing = threading.Thread(target=db_rows.commit, args=(database, lease, 30))
    with database.writing() as session:
        retries.hold_checkpoint(session, db_rows.OWNER, wanted, param=use)
        committing.start()
        db_rows.wait_for_lock(database, committing)
        begins_with: dict[str, Any] = {use: wanted}
        new = NewJob(recipe="quick", config={"epochs": 2}, seed=1, max_failures=3, **begins_with)
        jobs.submit(session, db_rows.OWNER, session.get_one(Dataset, "ds_digits"), new)
    committing.join()
    with database.reading() as session:
        row = session.get_one(Checkpoint, wanted)
        assert (row.status, row.pruned_at) == ("committed", None)
        assert (row.state_pruned_at is None) == (use == "resume_from")


def test_a_commit_and_the_word_that_a_checkpoint_is_damaged_wait_for_each_other_in_turn(database: Database) -> None:
    """Both write the job and its checkpoints: in opposite orders each would wait for the other."""
    db_rows.submit(database)
    lease = db_rows.claim(database)
    bad, good = db_rows.commit(database, lease, 10, is_best=True), db_rows.commit(database, lease, 20)

    def mark() -> None:
        with database.writing() as session:
            checkpoints.set_aside(session, bad, CheckpointStatus.CORRUPT, "sha256 differs")

    marking = threading.Thread(target=mark)
    with database.writing() as session:
        write_fenced(session, lease, {"heartbeat_at": now()})
        marking.start()
        db_rows.wait_for_lock(database, marking)
        last = checkpoints.commit_checkpoint(session, lease, db_rows.new_checkpoint(lease, 30), keep_latest=2)
    marking.join()
    assert db_rows.statuses(database) == {bad: "corrupt", good: "committed", last: "committed"}
