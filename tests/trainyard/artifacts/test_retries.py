from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import func, select

from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.errors import ConfigError
from alexnet_core.layout import CheckpointKind
from alexnet_core.recipes import resolve
from tests.trainyard import rows as db_rows
from trainyard.artifacts import deletion, retries
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


def finish(database: Database, lease: leases.Lease, **ending: Any) -> None:
    with database.writing() as session:
        leases.end_attempt(session, lease, leases.Ending(**(ending or {"succeeded": True})), first_backoff_s=2)


def ended_job(database: Database, *steps: int, failure: str | None = "diverged", **new: Any) -> tuple[str, list[str]]:
    """A job that failed after checkpoints at these steps; ten are an epoch."""
    job_id = db_rows.submit(database, config=CONFIG, **new)
    lease = db_rows.claim(database)
    made = [db_rows.commit(database, lease, step, is_best=step == steps[0]) for step in steps]
    finish(database, lease, **({"failure": failure} if failure else {}))
    return job_id, made


def retry(database: Database, job_id: str, origin: str, **overrides: Any) -> Job:
    with database.writing() as session:
        parent, new = retries.prepare_retry(
            session, db_rows.OWNER, job_id, origin=origin, overrides=overrides, max_failures=3
        )
        return jobs.submit(session, db_rows.OWNER, parent.its_dataset, new)


def delete(database: Database, job_id: str) -> list[str]:
    with database.writing() as session:
        return deletion.delete_job(session, db_rows.OWNER, job_id)


class TestRetry:
    def test_from_the_start_is_the_same_request_again(self, database: Database) -> None:
        parent, _ = ended_job(database, 10, seed=7, name="n", metadata={"a": "b"}, priority=3, max_runtime_s=60.0)
        job = retry(database, parent, "start", lr=0.5)
        assert (job.state, job.parent_id, job.resume_from, job.seed) == ("queued", parent, None, 7)
        assert job.config == CONFIG | {"lr": 0.5}
        assert (job.name, job.labels, job.priority, job.max_runtime_s) == ("n", {"a": "b"}, 3, 60.0)
        assert (job.best, job.dataset_digest) == (None, None)

    def test_from_latest_begins_with_the_newest_state_and_the_best_epoch(self, database: Database) -> None:
        parent, made = ended_job(database, 10, 20)
        db_rows.write(database, parent, dataset_digest="d")
        job = retry(database, parent, "latest", epochs=9, max_runtime_s=None)
        assert (job.resume_from, job.dataset_digest, job.config["epochs"]) == (made[1], "d", 9)
        assert job.best is not None
        assert job.best["checkpoint"] == made[0]

    def test_from_an_earlier_checkpoint_no_later_epoch_is_the_best(self, database: Database) -> None:
        job_id = db_rows.submit(database, config=CONFIG)
        lease = db_rows.claim(database)
        first = db_rows.commit(database, lease, 10)
        db_rows.commit(database, lease, 20, is_best=True)
        finish(database, lease, failure="diverged")
        assert retry(database, job_id, first).best is None

    @pytest.mark.parametrize("state", ["queued", "running", "paused"])
    def test_only_a_job_that_has_ended(self, database: Database, state: str) -> None:
        job_id = db_rows.submit(database, config=CONFIG)
        if state == "running":
            db_rows.claim(database)
        if state == "paused":
            db_rows.act(database, jobs.pause, job_id)
        with pytest.raises(IllegalTransition, match=state):
            retry(database, job_id, "start")
        with pytest.raises(IllegalTransition, match=state):
            delete(database, job_id)

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
        self, database: Database, overrides: dict[str, Any], param: str
    ) -> None:
        parent, _ = ended_job(database, 10, max_runtime_s=60.0)
        with pytest.raises(InvalidRequest) as refusal:
            retry(database, parent, "latest", **overrides)
        assert refusal.value.param == param

    def test_an_override_that_is_no_config_is_refused(self, database: Database) -> None:
        parent, _ = ended_job(database, 10)
        for origin in ("start", "latest"):
            with pytest.raises(ConfigError, match=r"overrides\.epochs"):
                retry(database, parent, origin, epochs="many")

    def test_a_job_that_has_had_its_time_needs_more_of_it(self, database: Database) -> None:
        parent, made = ended_job(database, 10, failure="max_runtime", max_runtime_s=60.0)
        with pytest.raises(InvalidRequest, match="has had its 60 s"):
            retry(database, parent, "latest")
        assert retry(database, parent, "latest", max_runtime_s=61).max_runtime_s == 61
        assert retry(database, parent, "start").resume_from is None
        assert retry(database, parent, made[0], max_runtime_s=None).max_runtime_s is None

    def test_a_job_that_has_all_its_epochs_needs_more_of_them(self, database: Database) -> None:
        parent, _ = ended_job(database, 30, failure=None)
        with pytest.raises(InvalidRequest, match="all 3 epochs"):
            retry(database, parent, "latest")
        assert retry(database, parent, "latest", epochs=4).config["epochs"] == 4

    @pytest.mark.parametrize("overrides", [{}, {"epochs": 9}])
    def test_a_job_that_ended_early_does_not_go_on_to_end_again_at_once(
        self, database: Database, overrides: dict[str, Any]
    ) -> None:
        parent, made = ended_job(database, 10, 20, failure=None)
        advice = "after 2 of 3 epochs.*`init_from`, or retry from `start`"
        for origin in ("latest", made[1]):
            with pytest.raises(InvalidRequest, match=advice) as refusal:
                retry(database, parent, origin, **overrides)
            assert refusal.value.param == "from"
        assert retry(database, parent, made[0], **overrides).resume_from == made[0], "the run was not over there"
        assert retry(database, parent, "start", **overrides).parent_id == parent

    def test_a_retry_that_had_nothing_to_do_is_not_repeated(self, database: Database) -> None:
        """As it was queued by a version that did not refuse it."""
        parent, made = ended_job(database, 20, failure=None)
        idle, _ = ended_job(database, failure=None, resume_from=made[0], parent_id=parent)
        with pytest.raises(InvalidRequest, match="after 2 of 3 epochs"):
            retry(database, idle, "latest")

    @pytest.mark.parametrize("ending", ["failed", "cancelled"])
    def test_a_job_that_was_cut_off_goes_on_from_its_last_checkpoint(self, database: Database, ending: str) -> None:
        parent = db_rows.submit(database, config=CONFIG)
        lease = db_rows.claim(database)
        made = db_rows.commit(database, lease, 20)
        if ending == "cancelled":
            db_rows.act(database, jobs.cancel, parent)
            finish(database, lease, stopped="cancel")
        else:
            finish(database, lease, failure="diverged")
        assert db_rows.look(database, parent).state == ending
        assert retry(database, parent, "latest").resume_from == made

    def test_there_must_be_something_to_go_on_from(self, database: Database) -> None:
        empty, _ = ended_job(database)
        parent, made = ended_job(database, 10, 20, 30)
        with pytest.raises(NoCheckpointOfJob):
            retry(database, empty, "latest")
        for origin in (made[0], "ckpt_0"):
            with pytest.raises(CheckpointNotFound) as refusal:
                retry(database, empty, origin)
            assert refusal.value.param == "from"
        with pytest.raises(NoTrainingState):
            retry(database, parent, made[0], epochs=5)
        with pytest.raises(JobNotFound):
            retry(database, "job_0", "start")

    def test_a_retry_that_left_nothing_is_retried_from_where_it_began(self, database: Database) -> None:
        parent, made = ended_job(database, 10)
        first = retry(database, parent, "latest").id
        finish(database, db_rows.claim(database), failure="diverged")
        assert retry(database, first, "latest").resume_from == made[0]

    def test_a_retry_from_the_start_begins_with_the_same_weights(self, database: Database) -> None:
        _, made = ended_job(database, 10)
        parent, _ = ended_job(database, init_from=made[0])
        assert retry(database, parent, "start").init_from == made[0]


class TestDelete:
    def test_nothing_of_the_job_is_left_in_the_database(self, database: Database) -> None:
        other, kept = ended_job(database, 10)
        job_id, _ = ended_job(database, 10, 20)
        assert delete(database, job_id) == [
            f"checkpoints/{job_id}", f"tensorboard/{job_id}", f"logs/jobs/{job_id}.log",
            f"evaluations/{job_id}.jsonl",
        ]  # fmt: skip
        with database.reading() as session:
            assert list(session.scalars(select(Job.id))) == [other]
            assert list(session.scalars(select(Checkpoint.id))) == kept
            assert session.scalar(select(func.count()).where(JobEvent.job_id == job_id)) == 0
            assert session.scalar(select(func.count()).select_from(Removal)) == 4
        with pytest.raises(JobNotFound):
            delete(database, job_id)

    @pytest.mark.parametrize("use", ["init_from", "resume_from", "best", "parent"])
    @pytest.mark.parametrize("state", ["queued", "running", "paused", "cancelled"])
    def test_a_job_that_another_one_needs_stays(self, database: Database, use: str, state: str) -> None:
        parent, made = ended_job(database, 10)
        if use in {"init_from", "resume_from"}:
            begins_with: dict[str, Any] = {use: made[0]}
            user = db_rows.submit(database, **begins_with)
        elif use == "best":
            user = db_rows.submit(database, best={"epoch": 1, "checkpoint": made[0]})
        else:
            user = retry(database, parent, "start").id
        if state == "running":
            db_rows.claim(database)
        elif state != "queued":
            db_rows.act(database, jobs.pause if state == "paused" else jobs.cancel, user)
        if state == "cancelled":
            delete(database, parent)
            assert db_rows.look(database, user).parent_id is None
            return
        with pytest.raises(InUse, match=user):
            delete(database, parent)
        assert db_rows.look(database, parent).id == parent

    def test_a_checkpoint_with_an_alias_keeps_its_job(self, database: Database) -> None:
        job_id, made = ended_job(database, 10)
        with database.writing() as session:
            session.add(Alias(owner=db_rows.OWNER, name="production", checkpoint_id=made[0], updated_at=0.0))
        with pytest.raises(InUse, match="production"):
            delete(database, job_id)

    def test_every_table_that_names_a_job_or_a_checkpoint_is_known(self) -> None:
        """A new one must be added to the deletion, or the database refuses it once there is a row."""
        known = {"job_events", "job_metrics", "checkpoints", "idempotency_keys", "job_labels", "jobs", "aliases"}
        known |= {"prediction_segments"}  # of predictions: `predictions.delete_prediction`
        naming = {
            table.name
            for table in Base.metadata.sorted_tables
            for key in table.foreign_keys
            if key.column.table.name in {"jobs", "checkpoints"}
        }
        assert naming == known

    def test_of_a_retry_and_a_deletion_at_once_only_one_wins(self, database: Database) -> None:
        parent, made = ended_job(database, 10)
        refused: list[str] = []
        barrier = threading.Barrier(2)

        def attempt(action: Any) -> None:
            barrier.wait()
            try:
                action()
            except ServiceError as exc:
                refused.append(exc.code)

        racers = [lambda: retry(database, parent, "latest"), lambda: delete(database, parent)]
        threads = [threading.Thread(target=attempt, args=(racer,)) for racer in racers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert refused in (["in_use"], ["job_not_found"]), refused
        assert (made[0] in db_rows.statuses(database)) == (refused == ["in_use"])

    def test_a_retry_of_a_child_goes_first_and_its_parent_stays(self, database: Database) -> None:
        """The retry holds the child and wants its parent's checkpoint; the deletion wants both, in the same order."""
        parent, made = ended_job(database, 10)
        child = retry(database, parent, "latest").id
        finish(database, db_rows.claim(database), failure="diverged")
        refused: list[str] = []

        def attempt() -> None:
            try:
                delete(database, parent)
            except ServiceError as exc:
                refused.append(exc.code)

        deleting = threading.Thread(target=attempt)
        with database.writing() as session:
            retries.hold_job(session, db_rows.OWNER, child)
            deleting.start()
            db_rows.wait_for_lock(database, deleting)
            held, new = retries.prepare_retry(
                session, db_rows.OWNER, child, origin="latest", overrides={}, max_failures=3
            )  # fmt: skip
            jobs.submit(session, db_rows.OWNER, held.its_dataset, new)
        deleting.join()
        assert (refused, list(db_rows.statuses(database))) == (["in_use"], made)


@pytest.mark.parametrize("kind", [CheckpointKind.EPOCH, CheckpointKind.RECOVERY])
def test_weights_that_a_waiting_job_begins_with_are_not_pruned(database: Database, kind: CheckpointKind) -> None:
    db_rows.submit(database, config=CONFIG)
    lease = db_rows.claim(database)
    wanted = db_rows.commit(database, lease, 10, kind=kind)
    db_rows.submit(database, init_from=wanted)
    for step in (20, 30, 40):
        db_rows.commit(database, lease, step)
    assert db_rows.statuses(database)[wanted] == "committed"


def test_a_checkpoint_is_held_only_by_its_owner(database: Database) -> None:
    _, made = ended_job(database, 10)
    with database.writing() as session:
        assert retries.hold_checkpoint(session, db_rows.OWNER, made[0], param="init_from").id == made[0]
        for owner, wanted in (("bob", made[0]), (db_rows.OWNER, "ckpt_0"), (db_rows.OWNER, "\x00")):
            with pytest.raises(CheckpointNotFound) as refusal:
                retries.hold_checkpoint(session, owner, wanted, param="init_from")
            assert refusal.value.param == "init_from"
