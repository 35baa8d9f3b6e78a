"""The segments of a prediction's results: each image has one row, whoever writes."""

from __future__ import annotations

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from alexnet_core.layout import predictions_key
from tests.trainyard import rows as db_rows
from tests.trainyard.rows import OWNER
from trainyard.artifacts import predictions
from trainyard.artifacts.predictions import NewPrediction, NewSegment, Totals
from trainyard.artifacts.quotas import Quota
from trainyard.database.connection import Database
from trainyard.database.tables import Job, JobEvent
from trainyard.errors import LeaseLost
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.leases import Lease
from trainyard.serving_errors import PredictionNotFound
from trainyard.states import EventType, JobState, WorkKind
from trainyard.upload_errors import QuotaExceeded

NO_LIMIT = Quota()


def submit(database: Database) -> str:
    job_id = db_rows.submit(database)
    checkpoint_id = db_rows.commit(database, db_rows.claim(database), 10)
    new = NewPrediction(checkpoint_id=checkpoint_id, top_k=5, model={"job": job_id}, upload_id="upl_1")
    with database.writing() as session:
        return predictions.submit_prediction(session, OWNER, new, max_failures=3).id


def claim(database: Database, worker: str = "wrk_a") -> Lease:
    claimed = claim_at_once(database, worker, 60, kind=WorkKind.PREDICT)
    assert claimed is not None
    return claimed[1]


def segment(first_row: int, num_rows: int, epoch: int = 1) -> NewSegment:
    counts = {"num_rows": num_rows, "num_errors": 1, "num_labelled": num_rows - 1, "hits1": 1, "hits5": 2}
    return NewSegment(first_row, f"predictions/x/rows-{first_row:08d}-e{epoch}", 10, "0" * 64, counts)


def record(database: Database, lease: Lease, new: NewSegment, quota: Quota = NO_LIMIT) -> None:
    with database.writing() as session:
        predictions.record_segment(session, lease, new, quota, num_images=30)


def totals(database: Database, prediction_id: str) -> Totals:
    with database.reading() as session:
        return predictions.read_totals(session, prediction_id)


def test_segments_follow_each_other_and_are_counted(database: Database) -> None:
    prediction_id = submit(database)
    lease = claim(database)
    record(database, lease, segment(0, 10))
    record(database, lease, segment(10, 5))
    found = totals(database, prediction_id)
    assert found == Totals(num_rows=15, num_errors=2, num_labelled=13, hits1=2, hits5=4, size_bytes=20)
    assert found.summarise()["top1"] == 2 / 13
    with database.reading() as session:
        behind = predictions.list_segments(session, prediction_id, 9, limit=10)
        assert [it.first_row for it in behind] == [0, 10]
        assert [it.first_row for it in predictions.list_segments(session, prediction_id, 10, limit=10)] == [10]
        assert predictions.list_segments(session, prediction_id, 15, limit=10) == []


def test_a_record_whose_answer_was_lost_is_repeated_without_harm(database: Database) -> None:
    prediction_id = submit(database)
    lease = claim(database)
    record(database, lease, segment(0, 10))
    record(database, lease, segment(0, 10))
    assert totals(database, prediction_id).num_rows == 10
    with database.reading() as session:
        told = session.scalars(select(JobEvent.data).where(JobEvent.type == EventType.RESULTS)).all()
    assert told == [{"rows": 10, "images": 30}]


@pytest.mark.parametrize("new", [segment(5, 10), segment(20, 10), segment(0, 3, epoch=2)])
def test_rows_that_are_there_or_leave_a_gap_are_refused(database: Database, new: NewSegment) -> None:
    prediction_id = submit(database)
    lease = claim(database)
    record(database, lease, segment(0, 10))
    with pytest.raises(LeaseLost):
        record(database, lease, new)
    assert totals(database, prediction_id).num_rows == 10


def test_rows_that_do_not_fit_into_the_quota_are_not_recorded(database: Database) -> None:
    prediction_id = submit(database)
    lease, quota = claim(database), Quota(num_bytes=15)
    record(database, lease, segment(0, 10), quota)
    record(database, lease, segment(0, 10), quota)
    with pytest.raises(QuotaExceeded, match="take 10 of 15 bytes"):
        record(database, lease, segment(10, 10), quota)
    assert totals(database, prediction_id).num_rows == 10


def test_a_worker_whose_lease_is_over_records_nothing(database: Database) -> None:
    prediction_id = submit(database)
    old = claim(database)
    record(database, old, segment(0, 10))
    db_rows.write(database, prediction_id, state=JobState.QUEUED, lease_owner=None)
    new = claim(database, "wrk_b")
    record(database, new, segment(10, 5, epoch=2))
    with pytest.raises(LeaseLost):
        record(database, old, segment(15, 5))
    assert totals(database, prediction_id).num_rows == 15


def test_a_prediction_is_its_owners_own_and_no_job(database: Database) -> None:
    prediction_id = submit(database)
    with database.reading() as session:
        assert predictions.get_prediction(session, OWNER, prediction_id).kind is WorkKind.PREDICT
        for owner, name in (("other", prediction_id), (OWNER, "pred_none"), (OWNER, "job_x"), (OWNER, "pred_\0")):
            with pytest.raises(PredictionNotFound):
                predictions.get_prediction(session, owner, name)
    assert db_rows.try_claim(database) is None, "a slot takes no prediction"


def test_one_that_its_owner_deletes_meanwhile_keeps_no_other_from_expiring(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = sorted(submit(database) for _ in range(2))
    for each in ids:
        db_rows.write(database, each, state=JobState.CANCELLED, finished_at=0.0)
    look = predictions.get_prediction

    def get_prediction(session: Session, owner: str, prediction_id: str) -> Job:
        if prediction_id == ids[0]:
            raise PredictionNotFound
        return look(session, owner, prediction_id)

    monkeypatch.setattr(predictions, "get_prediction", get_prediction)
    with database.writing() as session:
        assert predictions.expire(session, keep_s=60) == [predictions_key(ids[1])]


def test_without_a_label_there_is_no_accuracy() -> None:
    assert Totals(num_rows=3).summarise() == {
        "num_rows": 3, "num_errors": 0, "num_labelled": 0, "top1": None, "top5": None,
    }  # fmt: skip
