from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import func, select, update
from sqlalchemy.orm import Session, undefer

from alexnet_core.config import DatasetFacts
from alexnet_core.errors import ConfigError
from tests.trainyard import rows as db_rows
from trainyard.artifacts import dataset_intake, datasets, deletion
from trainyard.artifacts.dataset_intake import MadePack, NewDataset
from trainyard.artifacts.retries import prepare_retry
from trainyard.database.connection import Database
from trainyard.database.ids import has_form
from trainyard.database.tables import NOT_YET, Dataset, Job, JobEvent, Outbox, Removal
from trainyard.errors import Conflict, DatasetNotFound, DatasetRejected, InUse, InvalidRequest, LeaseLost
from trainyard.jobs import job_list, jobs
from trainyard.jobs.jobs import NewJob
from trainyard.scheduling import claim_order, leases, queue_view
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.leases import Ending, Lease
from trainyard.scheduling.queue_view import WaitsFor
from trainyard.states import DatasetState, JobState, WorkKind
from trainyard.upkeep.reconciler import Reaper

OWNER = db_rows.OWNER
FACTS = DatasetFacts(
    name="flowers", num_classes=3, class_names=["a", "b", "c"], image_px=64, channels=3, flip_safe=True
)
UNSEEN = {"synchronize_session": False}  # the session's objects stay as they were read
MADE = MadePack(FACTS, digest="d" * 64, size_bytes=1000)


def submit(database: Database, *, is_whole: bool = True, upload: str = "upl_1", parent: str | None = None) -> Dataset:
    new = NewDataset("flowers", {"upload": upload}, {"image_px": 64}, is_whole=is_whole, parent_id=parent)
    with database.writing() as session:
        return dataset_intake.submit_dataset(session, OWNER, new, max_failures=2)


def claim(database: Database, worker: str = "wrk_a") -> Lease | None:
    claimed = claim_at_once(database, worker, 60, kind=WorkKind.VALIDATE)
    return None if claimed is None else claimed[1]


def complete(recipe: str | None, overrides: dict[str, Any], facts: DatasetFacts) -> tuple[str, dict[str, Any]]:
    if overrides.get("epochs") == 13:
        raise ConfigError("overrides.epochs is 13")
    return recipe or "quick", {"image_px": facts.image_px} | overrides


def end(database: Database, lease: Lease, ending: Ending, **kw: Any) -> None:
    with database.writing() as session:
        leases.end_attempt(session, lease, ending, first_backoff_s=0)
        dataset_intake.settle(session, lease.job_id, complete=complete, **kw)


def make_ready(database: Database) -> Dataset:
    dataset = submit(database)
    lease = claim(database)
    assert lease is not None
    end(database, lease, Ending(succeeded=True), made=MADE)
    return look(database, dataset.id)


def look(database: Database, dataset_id: str) -> Dataset:
    with database.reading() as session:
        return session.scalars(select(Dataset).where(Dataset.id == dataset_id).options(undefer(Dataset.report))).one()


def wait_with(database: Database, dataset_id: str, **config: Any) -> str:
    """Submit a job that waits for a dataset."""
    with database.writing() as session:
        dataset = datasets.hold_dataset(session, OWNER, dataset_id)
        new = NewJob(recipe="", config=config, seed=1, max_failures=3, waits_for_dataset=datasets.is_coming(dataset))
        return jobs.submit(session, OWNER, dataset, new).id


def test_a_whole_dataset_is_validated_by_a_claim_of_its_kind_and_by_no_other(database: Database) -> None:
    dataset = submit(database)
    assert (dataset.state, dataset.digest) == (DatasetState.VALIDATING, None)
    assert db_rows.try_claim(database) is None, "a slot that trains does not take it"
    job_id = db_rows.submit(database)
    lease = claim(database)
    assert lease is not None
    assert (lease.job_id, has_form(lease.job_id, "val")) == (dataset.work_id, True)
    assert claim(database, "wrk_b") is None, "nor does a validation take a job"
    assert db_rows.claim(database).job_id == job_id


def test_a_validation_that_succeeds_makes_the_dataset_ready_in_the_same_transaction(database: Database) -> None:
    dataset = submit(database)
    lease = claim(database)
    assert lease is not None
    end(database, lease, Ending(succeeded=True), made=MADE, report={"num_files": 7})
    dataset = look(database, dataset.id)
    assert (dataset.state, dataset.digest, dataset.size_bytes) == (DatasetState.READY, "d" * 64, 1000)
    assert datasets.facts_of(dataset) == FACTS
    assert (dataset.report, dataset.error, dataset.same_as) == ({"num_files": 7}, None, None)
    assert dataset.ready_at is not None


def test_the_same_content_is_told(database: Database) -> None:
    first, second = make_ready(database), make_ready(database)
    assert (second.digest, second.same_as) == (first.digest, first.id)


def test_a_validation_that_refuses_rejects_the_dataset_with_its_report(database: Database) -> None:
    dataset = submit(database)
    lease = claim(database)
    assert lease is not None
    end(database, lease, Ending(failure="dataset_invalid", message="There is one class."), report={"num_files": 7})
    dataset = look(database, dataset.id)
    assert dataset.state is DatasetState.REJECTED
    assert dataset.error is not None
    assert (dataset.error["code"], dataset.error["message"]) == ("dataset_invalid", "There is one class.")
    assert dataset.report == {"num_files": 7}
    with pytest.raises(DatasetRejected, match="There is one class"), database.writing() as session:
        datasets.hold_dataset(session, OWNER, dataset.id)


def test_a_worker_that_lost_its_lease_settles_nothing(database: Database) -> None:
    dataset = submit(database)
    old = claim(database)
    assert old is not None
    db_rows.write(database, dataset.work_id, lease_expires_at=1.0)
    Reaper(database, interval_s=1, lease_ttl_s=60, first_backoff_s=0).tick()
    with pytest.raises(LeaseLost):
        end(database, old, Ending(succeeded=True), made=MADE)
    assert look(database, dataset.id).state is DatasetState.VALIDATING
    new = claim(database, "wrk_b")
    assert new is not None
    assert new.lease_epoch == old.lease_epoch + 1
    end(database, new, Ending(succeeded=True), made=MADE)
    assert look(database, dataset.id).state is DatasetState.READY


def test_the_reaper_rejects_a_dataset_whose_workers_die_again_and_again(database: Database) -> None:
    dataset = submit(database)
    job_id = wait_with(database, dataset.id)
    reaper = Reaper(database, interval_s=1e6, lease_ttl_s=60, first_backoff_s=0)
    for state in (DatasetState.VALIDATING, DatasetState.REJECTED):
        assert claim(database) is not None
        db_rows.write(database, dataset.work_id, lease_expires_at=1.0)
        reaper.tick()
        assert look(database, dataset.id).state is state
    assert (look(database, dataset.id).error or {})["code"] == "crash_loop"
    job = db_rows.look(database, job_id)
    assert (job.state, (job.error or {})["code"]) == (JobState.FAILED, "dataset_rejected")


def test_a_dataset_waits_for_its_upload(database: Database) -> None:
    dataset, other = submit(database, is_whole=False), submit(database, is_whole=False, upload="upl_2")
    assert dataset.state is DatasetState.UPLOADING
    with database.reading() as session:
        outlook = queue_view.get_outlook(session, [OWNER], None)
    assert outlook.waits_for(db_rows.look(database, dataset.work_id)) is WaitsFor.UPLOAD
    assert claim(database) is None
    with database.writing() as session:
        dataset_intake.upload_is_whole(session, OWNER, "upl_1")
        dataset_intake.upload_is_whole(session, "somebody else", "upl_2")
    assert look(database, dataset.id).state is DatasetState.VALIDATING
    assert look(database, other.id).state is DatasetState.UPLOADING
    lease = claim(database)
    assert lease is not None
    assert lease.job_id == dataset.work_id


def test_an_upload_that_is_gone_rejects_what_waits_for_it(database: Database) -> None:
    dataset = submit(database, is_whole=False)
    job_id = wait_with(database, dataset.id)
    with database.writing() as session:
        dataset_intake.upload_is_gone(session, OWNER, "upl_1")
    dataset = look(database, dataset.id)
    assert (dataset.state, (dataset.error or {})["code"]) == (DatasetState.REJECTED, "upload_missing")
    assert db_rows.look(database, job_id).state is JobState.FAILED


def test_a_job_waits_for_its_dataset_and_gets_its_config_when_that_is_ready(database: Database) -> None:
    dataset = submit(database)
    waits = wait_with(database, dataset.id, recipe=None, overrides={"epochs": 3})
    cannot = wait_with(database, dataset.id, recipe="quick", overrides={"epochs": 13})
    with database.reading() as session:
        outlook = queue_view.get_outlook(session, [OWNER], None)
    assert outlook.waits_for(db_rows.look(database, waits)) is WaitsFor.DATASET
    assert db_rows.try_claim(database) is None
    lease = claim(database)
    assert lease is not None
    words = _count(database, Outbox)
    end(database, lease, Ending(succeeded=True), made=MADE)
    assert _count(database, Outbox) == words + 1, "only the one that can be trained wakes a worker"
    job, failed = db_rows.look(database, waits), db_rows.look(database, cannot)
    assert (job.recipe, job.config, job.not_before) == ("quick", {"image_px": 64, "epochs": 3}, 0.0)
    assert (failed.state, (failed.error or {})["code"]) == (JobState.FAILED, "config_invalid")
    assert failed.finished_at is not None
    assert db_rows.try_claim(database) == waits


def test_a_job_is_not_lost_whose_dataset_gets_ready_during_its_resume(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = wait_with(database, submit(database).id)
    db_rows.act(database, jobs.pause, waits)
    look = jobs.get_job

    def look_then_settle(session: Session, *given: Any) -> Job:
        found = look(session, *given)
        if found.state is JobState.PAUSED:  # on PostgreSQL `settle` may be committed here
            session.execute(update(Job).where(Job.id == waits).values(not_before=0.0), execution_options=UNSEEN)
        return found

    monkeypatch.setattr(jobs, "get_job", look_then_settle)
    assert db_rows.act(database, jobs.resume, waits).not_before == 0.0


def test_a_paused_job_goes_on_waiting_after_its_resume(database: Database) -> None:
    dataset = submit(database)
    waits, paused = wait_with(database, dataset.id), wait_with(database, dataset.id)
    for job_id in (waits, paused):
        db_rows.act(database, jobs.pause, job_id)
    assert db_rows.act(database, jobs.resume, waits).not_before == NOT_YET
    lease = claim(database)
    assert lease is not None
    end(database, lease, Ending(succeeded=True), made=MADE)
    assert [db_rows.try_claim(database), db_rows.try_claim(database)] == [waits, None]
    db_rows.act(database, jobs.resume, paused)
    assert db_rows.try_claim(database) == paused


def test_a_clock_that_is_set_back_starts_nothing_that_waits(database: Database) -> None:
    dataset = submit(database, is_whole=False)
    job_id = wait_with(database, dataset.id)
    with database.writing() as session:
        leases.follow_clock_back(session, 1.0, 60)
    assert db_rows.look(database, job_id).not_before == NOT_YET


def test_a_rejected_dataset_fails_a_paused_job_and_its_retry_says_why(database: Database) -> None:
    dataset = submit(database)
    job_id = wait_with(database, dataset.id)
    db_rows.act(database, jobs.pause, job_id)
    lease = claim(database)
    assert lease is not None
    end(database, lease, Ending(failure="dataset_invalid", message="No."))
    assert db_rows.look(database, job_id).state is JobState.FAILED
    with pytest.raises(InvalidRequest, match="never had a dataset"), database.writing() as session:
        prepare_retry(session, OWNER, job_id, origin="start", overrides={}, max_failures=3)


def test_validations_are_in_no_list_of_jobs_and_count_for_no_limit(database: Database) -> None:
    dataset = submit(database)
    job_id = db_rows.submit(database)
    assert claim(database) is not None
    with database.reading() as session:
        assert [row.id for row in job_list.list_jobs(session, OWNER, limit=10).items] == [job_id]
        assert jobs.read_jobs(session, OWNER, [dataset.work_id]) == []
        turns = claim_order.in_turn(session, 5e9, 1)
        assert [turn.job_id for turn in turns] == [job_id], "its owner runs no job"
        assert queue_view.get_outlook(session, [OWNER], 1).running == {}
        page = queue_view.list_queue(session, OWNER, limit=10, after=None, max_running_per_owner=None)
    assert [entry.job.id for entry in page.items] == [job_id]


def test_a_ready_dataset_is_deleted_with_its_validation_and_files(database: Database) -> None:
    dataset = make_ready(database)
    with database.writing() as session:
        assert dataset_intake.delete_dataset(session, OWNER, dataset.id) == [dataset.key]
    assert (
        _count(database, Dataset) + _count(database, Job) + _count(database, JobEvent) + _count(database, Outbox) == 0
    )
    with database.reading() as session:
        assert list(session.scalars(select(Removal.key))) == [dataset.key]


def test_a_dataset_that_jobs_need_is_not_deleted_and_the_refusal_names_them(database: Database) -> None:
    dataset = make_ready(database)
    job_id = wait_with(database, dataset.id, **db_rows.CONFIG)
    with pytest.raises(InUse, match=job_id), database.writing() as session:
        dataset_intake.delete_dataset(session, OWNER, dataset.id)
    db_rows.act(database, jobs.cancel, job_id)
    with database.writing() as session:
        dataset_intake.delete_dataset(session, OWNER, dataset.id)
    with pytest.raises(DatasetNotFound), database.reading() as session:
        datasets.get_dataset(session, OWNER, dataset.id)
    assert db_rows.look(database, job_id).dataset_id == dataset.id, "a job that has ended still says what it was for"
    assert _count(database, Dataset) == 1
    with database.writing() as session:
        deletion.delete_job(session, OWNER, job_id)
    assert _count(database, Dataset) == 0, "nobody names it any more"


def test_a_dataset_is_deleted_while_a_worker_validates_it(database: Database) -> None:
    dataset = submit(database)
    lease = claim(database)
    assert lease is not None
    with database.writing() as session:
        dataset_intake.delete_dataset(session, OWNER, dataset.id)
    with pytest.raises(LeaseLost), database.writing() as session:
        leases.heartbeat(session, lease, 60)


def test_a_built_in_dataset_and_anothers_are_not_deleted(database: Database) -> None:
    db_rows.add_dataset(database)
    mine = make_ready(database)
    with pytest.raises(Conflict, match="built in"), database.writing() as session:
        dataset_intake.delete_dataset(session, OWNER, "ds_digits")
    with pytest.raises(DatasetNotFound), database.writing() as session:
        dataset_intake.delete_dataset(session, "somebody else", mine.id)


def test_a_job_that_is_submitted_while_its_dataset_is_deleted_finds_it_or_keeps_it(database: Database) -> None:
    """The deletion holds the rows; the job's transaction waits, and then sees that the dataset is gone."""
    dataset = make_ready(database)
    outcome: list[object] = []

    def submit_job() -> None:
        try:
            outcome.append(wait_with(database, dataset.id, **db_rows.CONFIG))
        except DatasetNotFound as exc:
            outcome.append(exc)

    thread = threading.Thread(target=submit_job)
    with database.writing() as session:
        dataset_intake.delete_dataset(session, OWNER, dataset.id)
        thread.start()
        db_rows.wait_for_lock(database, thread)
    thread.join(timeout=20)
    assert len(outcome) == 1
    assert isinstance(outcome[0], DatasetNotFound)


def test_a_name_that_looks_like_an_id_hides_no_dataset(database: Database) -> None:
    first = make_ready(database)
    new = NewDataset(first.id, {"upload": "upl_2"}, {})
    with database.writing() as session:
        second = dataset_intake.submit_dataset(session, OWNER, new, max_failures=2)
    with database.reading() as session:
        assert datasets.get_dataset(session, OWNER, first.id).id == first.id
        assert datasets.get_dataset(session, OWNER, second.id).id == second.id


def test_a_parent_must_be_the_owners(database: Database) -> None:
    parent = make_ready(database)
    assert submit(database, parent=parent.id).parent_id == parent.id
    with pytest.raises(DatasetNotFound):
        submit(database, parent="ds_nobody")


def _count(database: Database, table: Any) -> int:
    with database.reading() as session:
        return int(session.scalar(select(func.count()).select_from(table)) or 0)
