from __future__ import annotations

import contextlib
import re
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from psycopg._queries import MAX_CACHED_STATEMENT_LENGTH, MAX_CACHED_STATEMENT_PARAMS
from sqlalchemy import select

from alexnet_core.layout import CheckpointKind
from tests.trainyard import rows as db_rows
from trainyard.artifacts import checkpoints, retries
from trainyard.artifacts.checkpoint_commits import Committed, commit_checkpoint
from trainyard.artifacts.checkpoints import get_latest, resolve_model
from trainyard.database.connection import Database, now
from trainyard.database.tables import Alias, Checkpoint, Dataset
from trainyard.errors import LeaseLost, NoCheckpoint
from trainyard.jobs import jobs
from trainyard.jobs.event_log import list_events
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling.leases import Lease, write_fenced
from trainyard.states import CheckpointStatus, Desired, EventType


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
        late_id = commit_checkpoint(session, slow, db_rows.new_checkpoint(slow, 10), keep_latest=2).id
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
    if database.engine.dialect.name == "postgresql":
        assert counts == [2] * 4, "one locks, and one writes"
    else:  # an event, its entry in the yard's log, a number, the row and what is pruned are statements of their own
        assert counts == [6, 6, 7, 7], "while nothing is pruned, nobody is asked who needs it"


@pytest.mark.postgres
@pytest.mark.parametrize("database", ["postgres"], indirect=True)
def test_a_commit_with_all_that_a_heartbeat_writes_is_short_enough_for_the_driver_to_keep(database: Database) -> None:
    """Psycopg looks for the parameters of a longer statement anew each time it is used."""
    db_rows.submit(database)
    lease = db_rows.claim(database)
    columns: dict[str, Any] = {"progress": {"step": 10}, "state_reason": "training"}
    with database.writing() as session, db_rows.counting_statements(database) as statements:
        new = db_rows.new_checkpoint(lease, 10)
        commit_checkpoint(session, lease, new, keep_latest=2, ttl_s=60, **columns)
    assert len(statements) == 2
    for statement in statements:
        assert len(statement) <= MAX_CACHED_STATEMENT_LENGTH
        assert len(set(re.findall(r"%\((\w+)\)s", statement))) <= MAX_CACHED_STATEMENT_PARAMS


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
        last = commit_checkpoint(session, lease, db_rows.new_checkpoint(lease, 30), keep_latest=2).id
    marking.join()
    assert db_rows.statuses(database) == {bad: "corrupt", good: "committed", last: "committed"}


def test_a_commit_extends_the_lease_and_writes_what_a_heartbeat_would(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database, ttl_s=60)
    new = db_rows.new_checkpoint(lease, 10)
    with database.writing() as session:
        untouched = commit_checkpoint(session, lease, db_rows.new_checkpoint(lease, 5), keep_latest=2)
    before = db_rows.look(database, job_id)
    assert before.lease_expires_at is not None
    with database.writing() as session:
        jobs.pause(session, db_rows.OWNER, job_id)
    told: dict[str, Any] = {"keep_latest": 2, "ttl_s": 600, "progress": {"step": 10}}
    with database.writing() as session:
        committed = commit_checkpoint(session, lease, new, **told)
    after = db_rows.look(database, job_id)
    assert after.lease_expires_at is not None
    assert after.lease_expires_at > before.lease_expires_at + 500
    assert after.progress == {"step": 10}
    assert (untouched.desired, committed.desired) == (Desired.RUN, Desired.PAUSE)


def test_a_commit_that_is_sent_again_is_the_same_and_extends_the_lease(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database, ttl_s=60)
    first = db_rows.commit(database, lease, 10)
    before = db_rows.look(database, job_id)
    assert before.lease_expires_at is not None
    with database.writing() as session:
        new = db_rows.new_checkpoint(lease, 10)
        again = commit_checkpoint(session, lease, new, keep_latest=2, ttl_s=600, progress={"step": 10})
    assert again == Committed(first, Desired.RUN)
    after = db_rows.look(database, job_id)
    assert after.lease_expires_at is not None
    assert after.lease_expires_at > before.lease_expires_at + 500
    assert (after.progress, after.event_seq) == ({"step": 10}, before.event_seq)


def test_a_commit_that_is_sent_again_before_the_first_is_over_is_the_same(database: Database) -> None:
    """The worker gave its first try up too early: the second waits for it, and must see what it did."""
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    db_rows.commit(database, lease, 10)
    committed: list[str] = []
    again = threading.Thread(target=lambda: committed.append(db_rows.commit(database, lease, 20)))
    with database.writing() as session:
        first = commit_checkpoint(session, lease, db_rows.new_checkpoint(lease, 20), keep_latest=2)
        again.start()
        db_rows.wait_for_lock(database, again)
    again.join()
    assert committed == [first.id]
    assert len(db_rows.statuses(database)) == 2
    with database.reading() as session:
        assert [event.type for event in list_events(session, job_id, after=0, limit=9).items].count(
            EventType.CHECKPOINT
        ) == 2


def test_a_commit_whose_lease_is_over_writes_nothing(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database)
    kept = db_rows.commit(database, lease, 10)
    before = db_rows.look(database, job_id)
    for lost in (replace(lease, lease_epoch=lease.lease_epoch - 1), replace(lease, worker_id="wrk_other")):
        with pytest.raises(LeaseLost), database.writing() as session:
            commit_checkpoint(session, lost, db_rows.new_checkpoint(lost, 20), keep_latest=2, ttl_s=600)
    after = db_rows.look(database, job_id)
    assert (after.event_seq, after.lease_expires_at) == (before.event_seq, before.lease_expires_at)
    assert list(db_rows.statuses(database)) == [kept]
