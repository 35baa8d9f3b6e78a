from __future__ import annotations

import threading

import pytest

from tests.trainyard import yardbook as yb
from trainyard.artifacts import checkpoints, retries
from trainyard.artifacts.checkpoints import CheckpointKind, resolve_model
from trainyard.database.connection import Database, now
from trainyard.database.tables import Alias, Checkpoint, Dataset
from trainyard.errors import CheckpointNotFound, CheckpointPruned, InvalidRequest, NoCheckpoint, NoCheckpointOfJob
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling.leases import write_fenced


def resolve(books: Database, reference: str, owner: str = "local") -> str:
    with books.reading() as session:
        return resolve_model(session, owner, reference).id


def test_retention_keeps_best_latest_two_and_aliased(books: Database) -> None:
    yb.submit(books)
    lease = yb.claim(books)
    aliased = yb.commit(books, lease, 10)
    with books.writing() as session:
        session.add(Alias(owner="local", name="production", checkpoint_id=aliased, updated_at=now()))
    best = yb.commit(books, lease, 20, is_best=True)
    plain = [yb.commit(books, lease, step) for step in (30, 40, 50)]
    kept = {key for key, status in yb.statuses(books).items() if status == "committed"}
    assert kept == {aliased, best, *plain[1:]}
    with books.reading() as session:
        stateful = {c.id for c in session.query(Checkpoint) if c.status == "committed" and not c.state_pruned_at}
        assert stateful == set(plain[1:]), "only where the job may go on from"


def test_a_recovery_checkpoint_goes_when_a_newer_one_commits(books: Database) -> None:
    job_id = yb.submit(books)
    lease = yb.claim(books)
    recovery = yb.commit(books, lease, 5, kind=CheckpointKind.RECOVERY)
    with books.reading() as session:
        found = checkpoints.find_resumable(session, job_id)
        assert found
        assert (found.id, found.publication) == (recovery, None)
    epoch = yb.commit(books, lease, 10)
    assert yb.statuses(books) == {recovery: "pruned", epoch: "committed"}


def test_publications_rise_and_latest_follows(books: Database) -> None:
    yb.submit(books)
    yb.submit(books)
    one, two = yb.claim(books), yb.claim(books, "wrk_b")
    with pytest.raises(NoCheckpoint):
        resolve(books, "latest")
    for lease, step in ((one, 10), (two, 10), (one, 20)):
        committed = yb.commit(books, lease, step)
        assert resolve(books, "latest") == committed
    yb.commit(books, two, 15, kind=CheckpointKind.RECOVERY)
    assert resolve(books, f"{one.job_id}@latest") == resolve(books, "latest") == committed
    with books.reading() as session:
        numbers = [c.publication for c in session.query(Checkpoint).order_by(Checkpoint.created_at) if c.publication]
    assert numbers == [1, 2, 3]


def test_every_form_of_a_model_reference(books: Database) -> None:
    job_id = yb.submit(books)
    lease = yb.claim(books)
    with pytest.raises(NoCheckpointOfJob):
        resolve(books, job_id)
    best = yb.commit(books, lease, 10, is_best=True)
    pruned, before, last = (yb.commit(books, lease, step) for step in (20, 30, 40))
    assert resolve(books, job_id) == best
    assert resolve(books, f"{job_id}@latest") == last
    assert resolve(books, f"{job_id}@epoch-3") == before
    assert resolve(books, before) == before
    for reference in (pruned, f"{job_id}@epoch-2"):
        with pytest.raises(CheckpointPruned):
            resolve(books, reference)
    for reference in (f"{job_id}@epoch-9", "ckpt_0", "ckpt_\x00"):
        with pytest.raises(CheckpointNotFound):
            resolve(books, reference)
    for reference in ("", "production!", f"{job_id}@best", f"{job_id}@epoch-", "\x00"):
        with pytest.raises(InvalidRequest):
            resolve(books, reference)
    with pytest.raises(CheckpointNotFound):
        resolve(books, last, owner="bob")


def test_a_corrupt_checkpoint_is_passed_over(books: Database) -> None:
    job_id = yb.submit(books)
    lease = yb.claim(books)
    good, bad = yb.commit(books, lease, 10), yb.commit(books, lease, 20, is_best=True)
    with books.writing() as session:
        checkpoints.mark_corrupt(session, bad, "sha256 differs")
        checkpoints.mark_corrupt(session, bad, "sha256 differs")
        found = checkpoints.find_resumable(session, job_id)
        assert found
        assert found.id == good
    assert resolve(books, "latest") == resolve(books, job_id) == good


@pytest.mark.parametrize("use", ["init_from", "resume_from"])
def test_a_commit_that_meets_a_job_which_begins_with_a_checkpoint_keeps_it(books: Database, use: str) -> None:
    """The job's transaction has locked the checkpoint, and names it once the commit waits for that lock."""
    yb.submit(books)
    lease = yb.claim(books)
    wanted, _ = yb.commit(books, lease, 10), yb.commit(books, lease, 20)
    committing = threading.Thread(target=yb.commit, args=(books, lease, 30))
    with books.writing() as session:
        retries.hold_checkpoint(session, yb.OWNER, wanted, param=use)
        committing.start()
        yb.wait_for_lock(books, committing)
        new = NewJob(recipe="quick", config={"epochs": 2}, seed=1, max_failures=3, **{use: wanted})
        jobs.submit(session, yb.OWNER, session.get_one(Dataset, "ds_digits"), new)
    committing.join()
    with books.reading() as session:
        row = session.get_one(Checkpoint, wanted)
        assert (row.status, row.pruned_at) == ("committed", None)
        assert (row.state_pruned_at is None) == (use == "resume_from")


def test_a_commit_and_the_word_that_a_checkpoint_is_damaged_wait_for_each_other_in_turn(books: Database) -> None:
    """Both write the job and its checkpoints: in opposite orders each would wait for the other."""
    yb.submit(books)
    lease = yb.claim(books)
    bad, good = yb.commit(books, lease, 10, is_best=True), yb.commit(books, lease, 20)

    def mark() -> None:
        with books.writing() as session:
            checkpoints.mark_corrupt(session, bad, "sha256 differs")

    marking = threading.Thread(target=mark)
    with books.writing() as session:
        write_fenced(session, lease, {"heartbeat_at": now()})
        marking.start()
        yb.wait_for_lock(books, marking)
        last = checkpoints.commit_checkpoint(session, lease, yb.new_checkpoint(lease, 30), keep_latest=2).id
    marking.join()
    assert yb.statuses(books) == {bad: "corrupt", good: "committed", last: "committed"}
