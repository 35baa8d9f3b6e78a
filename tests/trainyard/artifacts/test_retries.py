from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import func, select

from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.errors import ConfigError
from alexnet_core.recipes import resolve
from tests.trainyard import yardbook as yb
from trainyard.artifacts import deletion, retries
from trainyard.artifacts.checkpoints import CheckpointKind
from trainyard.database.connection import Database
from trainyard.database.tables import Alias, Base, Checkpoint, Job, JobEvent, Removal
from trainyard.errors import (
    CheckpointNotFound,
    IllegalTransition,
    InUse,
    InvalidRequest,
    JobNotFound,
    NoCheckpointOfJob,
    NoTrainingState,
    ServiceError,
)
from trainyard.jobs import jobs
from trainyard.scheduling import leases

CONFIG = resolve("quick", {"epochs": 3}, BUILTINS["digits"].facts)[1].model_dump(mode="json")


def finish(books: Database, lease: leases.Lease, **ending: Any) -> None:
    with books.writing() as session:
        leases.end_attempt(session, lease, leases.Ending(**(ending or {"succeeded": True})), first_backoff_s=2)


def ended_job(books: Database, *steps: int, failure: str | None = "diverged", **new: Any) -> tuple[str, list[str]]:
    """A job that failed after checkpoints at these steps; ten are an epoch."""
    job_id = yb.submit(books, config=CONFIG, **new)
    lease = yb.claim(books)
    made = [yb.commit(books, lease, step, is_best=step == steps[0]) for step in steps]
    finish(books, lease, **({"failure": failure} if failure else {}))
    return job_id, made


def retry(books: Database, job_id: str, origin: str, **overrides: Any) -> Job:
    with books.writing() as session:
        parent, new = retries.prepare_retry(
            session, yb.OWNER, job_id, origin=origin, overrides=overrides, max_failures=3
        )
        return jobs.submit(session, yb.OWNER, parent.dataset, new)


def delete(books: Database, job_id: str) -> list[str]:
    with books.writing() as session:
        return deletion.delete_job(session, yb.OWNER, job_id)


class TestRetry:
    def test_from_the_start_is_the_same_request_again(self, books: Database) -> None:
        parent, _ = ended_job(books, 10, seed=7, name="n", metadata={"a": "b"}, priority=3, max_runtime_s=60.0)
        job = retry(books, parent, "start", lr=0.5)
        assert (job.state, job.parent_id, job.resume_from, job.seed) == ("queued", parent, None, 7)
        assert job.config == CONFIG | {"lr": 0.5}
        assert (job.name, job.labels, job.priority, job.max_runtime_s) == ("n", {"a": "b"}, 3, 60.0)
        assert (job.best, job.dataset_digest) == (None, None)

    def test_from_latest_begins_with_the_newest_state_and_the_best_epoch(self, books: Database) -> None:
        parent, made = ended_job(books, 10, 20)
        yb.write(books, parent, dataset_digest="d")
        job = retry(books, parent, "latest", epochs=9, max_runtime_s=None)
        assert (job.resume_from, job.dataset_digest, job.config["epochs"]) == (made[1], "d", 9)
        assert job.best is not None
        assert job.best["checkpoint"] == made[0]

    def test_from_an_earlier_checkpoint_no_later_epoch_is_the_best(self, books: Database) -> None:
        job_id = yb.submit(books, config=CONFIG)
        lease = yb.claim(books)
        first = yb.commit(books, lease, 10)
        yb.commit(books, lease, 20, is_best=True)
        finish(books, lease, failure="diverged")
        assert retry(books, job_id, first).best is None

    @pytest.mark.parametrize("state", ["queued", "running", "paused"])
    def test_only_a_job_that_has_ended(self, books: Database, state: str) -> None:
        job_id = yb.submit(books, config=CONFIG)
        if state == "running":
            yb.claim(books)
        if state == "paused":
            yb.act(books, jobs.pause, job_id)
        with pytest.raises(IllegalTransition, match=state):
            retry(books, job_id, "start")
        with pytest.raises(IllegalTransition, match=state):
            delete(books, job_id)

    @pytest.mark.parametrize(
        ("overrides", "param"),
        [
            ({"lr": 0.5}, "overrides.lr"),
            ({"epochs": 2}, "overrides.epochs"),
            ({"max_runtime_s": 30}, "overrides.max_runtime_s"),
            ({"max_runtime_s": -1}, "overrides.max_runtime_s"),
            ({"max_runtime_s": True}, "overrides.max_runtime_s"),
            ({"max_runtime_s": float("nan")}, "overrides.max_runtime_s"),
            ({"max_runtime_s": "long"}, "overrides.max_runtime_s"),
        ],
    )
    def test_from_a_checkpoint_overrides_may_only_extend(
        self, books: Database, overrides: dict[str, Any], param: str
    ) -> None:
        parent, _ = ended_job(books, 10, max_runtime_s=60.0)
        with pytest.raises(InvalidRequest) as refusal:
            retry(books, parent, "latest", **overrides)
        assert refusal.value.param == param

    def test_an_override_that_is_no_config_is_refused(self, books: Database) -> None:
        parent, _ = ended_job(books, 10)
        for origin in ("start", "latest"):
            with pytest.raises(ConfigError, match=r"overrides\.epochs"):
                retry(books, parent, origin, epochs="many")

    def test_a_job_that_has_had_its_time_needs_more_of_it(self, books: Database) -> None:
        parent, made = ended_job(books, 10, failure="max_runtime", max_runtime_s=60.0)
        with pytest.raises(InvalidRequest, match="has had its 60 s"):
            retry(books, parent, "latest")
        assert retry(books, parent, "latest", max_runtime_s=61).max_runtime_s == 61
        assert retry(books, parent, "start").resume_from is None
        assert retry(books, parent, made[0], max_runtime_s=None).max_runtime_s is None

    def test_a_job_that_has_all_its_epochs_needs_more_of_them(self, books: Database) -> None:
        parent, _ = ended_job(books, 30, failure=None)
        with pytest.raises(InvalidRequest, match="all 3 epochs"):
            retry(books, parent, "latest")
        assert retry(books, parent, "latest", epochs=4).config["epochs"] == 4

    @pytest.mark.parametrize("overrides", [{}, {"epochs": 9}])
    def test_a_job_that_ended_early_does_not_go_on_to_end_again_at_once(
        self, books: Database, overrides: dict[str, Any]
    ) -> None:
        parent, made = ended_job(books, 10, 20, failure=None)
        advice = "after 2 of 3 epochs.*`init_from`, or retry from `start`"
        for origin in ("latest", made[1]):
            with pytest.raises(InvalidRequest, match=advice) as refusal:
                retry(books, parent, origin, **overrides)
            assert refusal.value.param == "from"
        assert retry(books, parent, made[0], **overrides).resume_from == made[0], "the run was not over there"
        assert retry(books, parent, "start", **overrides).parent_id == parent

    def test_a_retry_that_had_nothing_to_do_is_not_repeated(self, books: Database) -> None:
        """As it was queued by a version that did not refuse it."""
        parent, made = ended_job(books, 20, failure=None)
        idle, _ = ended_job(books, failure=None, resume_from=made[0], parent_id=parent)
        with pytest.raises(InvalidRequest, match="after 2 of 3 epochs"):
            retry(books, idle, "latest")

    @pytest.mark.parametrize("ending", ["failed", "cancelled"])
    def test_a_job_that_was_cut_off_goes_on_from_its_last_checkpoint(self, books: Database, ending: str) -> None:
        parent = yb.submit(books, config=CONFIG)
        lease = yb.claim(books)
        made = yb.commit(books, lease, 20)
        if ending == "cancelled":
            yb.act(books, jobs.cancel, parent)
            finish(books, lease, stopped="cancel")
        else:
            finish(books, lease, failure="diverged")
        assert yb.look(books, parent).state == ending
        assert retry(books, parent, "latest").resume_from == made

    def test_there_must_be_something_to_go_on_from(self, books: Database) -> None:
        empty, _ = ended_job(books)
        parent, made = ended_job(books, 10, 20, 30)
        with pytest.raises(NoCheckpointOfJob):
            retry(books, empty, "latest")
        for origin in (made[0], "ckpt_0"):
            with pytest.raises(CheckpointNotFound) as refusal:
                retry(books, empty, origin)
            assert refusal.value.param == "from"
        with pytest.raises(NoTrainingState):
            retry(books, parent, made[0], epochs=5)
        with pytest.raises(JobNotFound):
            retry(books, "job_0", "start")

    def test_a_retry_that_left_nothing_is_retried_from_where_it_began(self, books: Database) -> None:
        parent, made = ended_job(books, 10)
        first = retry(books, parent, "latest").id
        finish(books, yb.claim(books), failure="diverged")
        assert retry(books, first, "latest").resume_from == made[0]

    def test_a_retry_from_the_start_begins_with_the_same_weights(self, books: Database) -> None:
        _, made = ended_job(books, 10)
        parent, _ = ended_job(books, init_from=made[0])
        assert retry(books, parent, "start").init_from == made[0]


class TestDelete:
    def test_nothing_of_the_job_is_left_in_the_books(self, books: Database) -> None:
        other, kept = ended_job(books, 10)
        job_id, _ = ended_job(books, 10, 20)
        assert delete(books, job_id) == [
            f"checkpoints/{job_id}", f"tensorboard/{job_id}", f"logs/jobs/{job_id}.log"
        ]  # fmt: skip
        with books.reading() as session:
            assert list(session.scalars(select(Job.id))) == [other]
            assert list(session.scalars(select(Checkpoint.id))) == kept
            assert session.scalar(select(func.count()).where(JobEvent.job_id == job_id)) == 0
            assert session.scalar(select(func.count()).select_from(Removal)) == 3
        with pytest.raises(JobNotFound):
            delete(books, job_id)

    @pytest.mark.parametrize("use", ["init_from", "resume_from", "best", "parent"])
    @pytest.mark.parametrize("state", ["queued", "running", "paused", "cancelled"])
    def test_a_job_that_another_one_needs_stays(self, books: Database, use: str, state: str) -> None:
        parent, made = ended_job(books, 10)
        if use in {"init_from", "resume_from"}:
            user = yb.submit(books, **{use: made[0]})
        elif use == "best":
            user = yb.submit(books, best={"epoch": 1, "checkpoint": made[0]})
        else:
            user = retry(books, parent, "start").id
        if state == "running":
            yb.claim(books)
        elif state != "queued":
            yb.act(books, jobs.pause if state == "paused" else jobs.cancel, user)
        if state == "cancelled":
            delete(books, parent)
            assert yb.look(books, user).parent_id is None
            return
        with pytest.raises(InUse, match=user):
            delete(books, parent)
        assert yb.look(books, parent).id == parent

    def test_a_checkpoint_with_an_alias_keeps_its_job(self, books: Database) -> None:
        job_id, made = ended_job(books, 10)
        with books.writing() as session:
            session.add(Alias(owner=yb.OWNER, name="production", checkpoint_id=made[0], updated_at=0.0))
        with pytest.raises(InUse, match="production"):
            delete(books, job_id)

    def test_every_table_that_names_a_job_or_a_checkpoint_is_known(self) -> None:
        """A new one must be added to the deletion, or the database refuses it once there is a row."""
        known = {"job_events", "job_metrics", "checkpoints", "idempotency_keys", "job_labels", "jobs", "aliases"}
        naming = {
            table.name
            for table in Base.metadata.sorted_tables
            for key in table.foreign_keys
            if key.column.table.name in {"jobs", "checkpoints"}
        }
        assert naming == known

    def test_of_a_retry_and_a_deletion_at_once_only_one_wins(self, books: Database) -> None:
        parent, made = ended_job(books, 10)
        refused: list[str] = []
        barrier = threading.Barrier(2)

        def attempt(action: Any) -> None:
            barrier.wait()
            try:
                action()
            except ServiceError as exc:
                refused.append(exc.code)

        racers = [lambda: retry(books, parent, "latest"), lambda: delete(books, parent)]
        threads = [threading.Thread(target=attempt, args=(racer,)) for racer in racers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused in (["in_use"], ["job_not_found"]), refused
        assert (made[0] in yb.statuses(books)) == (refused == ["in_use"])

    def test_a_retry_of_a_child_goes_first_and_its_parent_stays(self, books: Database) -> None:
        """The retry holds the child and wants its parent's checkpoint; the deletion wants both, in the same order."""
        parent, made = ended_job(books, 10)
        child = retry(books, parent, "latest").id
        finish(books, yb.claim(books), failure="diverged")
        refused: list[str] = []

        def attempt() -> None:
            try:
                delete(books, parent)
            except ServiceError as exc:
                refused.append(exc.code)

        deleting = threading.Thread(target=attempt)
        with books.writing() as session:
            retries.hold_job(session, yb.OWNER, child)
            deleting.start()
            yb.wait_for_lock(books, deleting)
            held, new = retries.prepare_retry(
                session, yb.OWNER, child, origin="latest", overrides={}, max_failures=3
            )  # fmt: skip
            jobs.submit(session, yb.OWNER, held.dataset, new)
        deleting.join()
        assert (refused, list(yb.statuses(books))) == (["in_use"], made)


@pytest.mark.parametrize("kind", [CheckpointKind.EPOCH, CheckpointKind.RECOVERY])
def test_weights_that_a_waiting_job_begins_with_are_not_pruned(books: Database, kind: CheckpointKind) -> None:
    yb.submit(books, config=CONFIG)
    lease = yb.claim(books)
    wanted = yb.commit(books, lease, 10, kind=kind)
    yb.submit(books, init_from=wanted)
    for step in (20, 30, 40):
        yb.commit(books, lease, step)
    assert yb.statuses(books)[wanted] == "committed"


def test_a_checkpoint_is_held_only_by_its_owner(books: Database) -> None:
    _, made = ended_job(books, 10)
    with books.writing() as session:
        assert retries.hold_checkpoint(session, yb.OWNER, made[0], param="init_from").id == made[0]
        for owner, wanted in (("bob", made[0]), (yb.OWNER, "ckpt_0"), (yb.OWNER, "\x00")):
            with pytest.raises(CheckpointNotFound) as refusal:
                retries.hold_checkpoint(session, owner, wanted, param="init_from")
            assert refusal.value.param == "init_from"
