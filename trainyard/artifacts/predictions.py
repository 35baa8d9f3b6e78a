"""Predictions over many images: their submission, the segments of their results, and their end.

A prediction is a row of `jobs` of its own kind, so that it is claimed, leased, retried and drained by the code that
does so for training. Its model is the checkpoint in `init_from`, which is kept as long as the prediction lives. Its
results are written segment after segment, each under the lease of the worker that computed it and right behind the one
before, so that every image has exactly one row, however often a worker is killed.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.orm import Session

from alexnet_core.layout import predictions_key
from trainyard.artifacts import datasets, quotas
from trainyard.artifacts.quotas import Quota
from trainyard.database.connection import now
from trainyard.database.ids import new_id
from trainyard.database.prediction_tables import PredictionSegment
from trainyard.database.tables import (
    NOT_YET,
    Checkpoint,
    Dataset,
    IdempotencyKey,
    Job,
    JobEvent,
    Outbox,
    Removal,
)
from trainyard.errors import DatasetNotReady, IllegalTransition, InvalidRequest, LeaseLost
from trainyard.jobs.events import append_event
from trainyard.jobs.jobs import ID_PREFIXES, begin, check_texts, get_job, move, request_wake_up
from trainyard.scheduling.leases import Lease, job_error, report_event, write_fenced
from trainyard.serving_errors import PredictionNotFound
from trainyard.states import EventType, JobState, WorkKind

_KIND = WorkKind.PREDICT
_FINAL_STATES = [state for state in JobState if state.is_final]
_COUNTED = ("num_rows", "num_errors", "num_labelled", "hits1", "hits5")
_AT_ONCE = 100


@dataclass(frozen=True)
class NewPrediction:
    """A prediction to be submitted, checked and complete."""

    checkpoint_id: str  #: that the caller has locked
    top_k: int
    model: dict[str, Any]  #: what is told of the checkpoint, even when it is gone: see `describe_model`
    dataset_id: str | None = None  #: of the images, which the caller holds
    upload_id: str | None = None  #: of an archive of images, where there is no dataset
    is_whole: bool = True  #: whether the upload is complete
    split: str | None = None  #: only images of this split of the dataset
    temperature: float | None = None  #: by which logits are divided; None: probabilities are not calibrated
    name: str | None = None


@dataclass(frozen=True)
class NewSegment:
    """Rows that are in the storage."""

    first_row: int
    key: str
    size_bytes: int
    sha256: str
    counts: dict[str, Any]


@dataclass(frozen=True)
class Totals:
    """What is counted of all rows that are stored."""

    num_rows: int = 0
    num_errors: int = 0
    num_labelled: int = 0
    hits1: int = 0
    hits5: int = 0
    size_bytes: int = 0

    def summarise(self) -> dict[str, Any]:
        """Return the summary as it is stored and shown. The accuracies are None where no class is known."""
        share = (lambda hits: hits / self.num_labelled) if self.num_labelled else (lambda hits: None)
        return {
            "num_rows": self.num_rows,
            "num_errors": self.num_errors,
            "num_labelled": self.num_labelled,
            "top1": share(self.hits1),
            "top5": share(self.hits5),
        }


def check_dataset(dataset: Dataset, split: str | None) -> None:
    """Refuse a dataset whose images can't be predicted now, or a split that it does not have.

    Raises:
        DatasetNotReady: it is not ready.
        InvalidRequest: the split has no image.
    """
    if datasets.is_coming(dataset):
        raise DatasetNotReady(
            f"dataset {dataset.id} is {dataset.state}: wait until it is ready, or predict its upload itself",
            param="dataset",
        )
    if split is not None:
        facts = datasets.facts_of(dataset)
        counts = {"train": facts.num_train, "validation": facts.num_val, "test": facts.num_test}
        if counts[split] == 0:
            raise InvalidRequest(f"dataset {dataset.id} has no image in its {split} split", param="split")


def describe_model(checkpoint: Checkpoint, asked: str) -> dict[str, Any]:
    """Return what a prediction keeps of its checkpoint."""
    return {
        "checkpoint": checkpoint.id,
        "job": checkpoint.job_id,
        "epoch": checkpoint.epoch,
        "weights_sha256": checkpoint.weights_sha256,
        "asked": asked,
    }


def submit_prediction(session: Session, owner: str, new: NewPrediction, *, max_failures: int) -> Job:
    """Queue a prediction. Row, event and wake-up message are one transaction: once committed, it will run.

    Raises:
        InvalidRequest: the name holds what can't be stored.
    """
    check_texts("name", new.name or "")
    config: dict[str, Any] = {
        "split": new.split,
        "top_k": new.top_k,
        "temperature": new.temperature,
        "model": new.model,
    }
    if new.upload_id is not None:
        config["upload"] = new.upload_id
    work = Job(
        id=new_id(ID_PREFIXES[_KIND]),
        kind=_KIND,
        owner=owner,
        name=new.name,
        dataset_id=new.dataset_id,
        recipe="",
        config=config,
        seed=0,
        labels={},
        init_from=new.checkpoint_id,
        max_failures=max_failures,
        not_before=0.0 if new.is_whole else NOT_YET,
        created_at=now(),
        queued_at=now(),
    )
    session.add(work)
    begin(session, work)
    return get_prediction(session, owner, work.id)


def get_prediction(session: Session, owner: str, prediction_id: str) -> Job:
    """Return a prediction.

    Raises:
        PredictionNotFound: there is none of this id, or it is another owner's.
    """
    return get_job(session, owner, prediction_id, kind=_KIND)


# --- its results ---


def record_segment(session: Session, lease: Lease, new: NewSegment, quota: Quota, *, num_images: int | None) -> None:
    """Record rows that are in the storage. Harmless if the same worker did so before, and the answer was lost.

    Args:
        session: a writing one.
        lease: of the worker that computed them.
        new: the rows; they begin where the ones before end.
        quota: of the prediction's owner.
        num_images: of the whole prediction, if it is known.

    Raises:
        LeaseLost: the lease is over, or other rows stand there: nothing was written.
        QuotaExceeded: they don't fit into the quota: roll back.
    """
    owner = session.scalar(select(Job.owner).where(Job.id == lease.job_id))
    if owner is None:
        raise LeaseLost(f"{lease.job_id} was deleted")
    if quota.num_bytes is not None:
        quotas.hold_owner(session, owner)  # before the row, in the order of all others
    write_fenced(session, lease, {"failures": 0})  # locks the row; it gets on, so what failed before counts no more
    known = session.get(PredictionSegment, (lease.job_id, new.first_row))
    if known is not None and known.key == new.key:
        return
    totals = read_totals(session, lease.job_id)
    if totals.num_rows != new.first_row:
        raise LeaseLost(f"{lease.job_id}: rows from {new.first_row} on don't follow the {totals.num_rows} stored")
    quotas.check_bytes(session, owner, quota, new.size_bytes)
    session.add(
        PredictionSegment(
            job_id=lease.job_id,
            first_row=new.first_row,
            num_rows=new.counts["num_rows"],
            lease_epoch=lease.lease_epoch,
            key=new.key,
            size_bytes=new.size_bytes,
            sha256=new.sha256,
            counts=new.counts,
            created_at=now(),
        )
    )
    data = {"rows": new.first_row + new.counts["num_rows"], "images": num_images}
    report_event(session, lease, EventType.RESULTS, reason="stored", data=data)


def read_totals(session: Session, prediction_id: str) -> Totals:
    """Return what is counted of the rows that are stored."""
    return read_totals_of(session, [prediction_id])[prediction_id]


def read_totals_of(session: Session, prediction_ids: Sequence[str]) -> dict[str, Totals]:
    """Return for several predictions what is counted of the rows that are stored."""
    sums = [func.sum(PredictionSegment.counts[name].as_integer()) for name in _COUNTED]
    of_these = PredictionSegment.job_id.in_(prediction_ids)
    query = select(PredictionSegment.job_id, *sums, func.sum(PredictionSegment.size_bytes)).where(of_these)
    found = {row[0]: Totals(*map(int, row[1:])) for row in session.execute(query.group_by(PredictionSegment.job_id))}
    return {each: found.get(each, Totals()) for each in prediction_ids}


def list_segments(session: Session, prediction_id: str, from_row: int, *, limit: int) -> list[PredictionSegment]:
    """Return the segments that hold the rows from one on, in order; none if there are none yet."""
    of_prediction = select(PredictionSegment).where(PredictionSegment.job_id == prediction_id)
    behind = of_prediction.where(PredictionSegment.first_row + PredictionSegment.num_rows > from_row)
    return list(session.scalars(behind.order_by(PredictionSegment.first_row).limit(limit)))


# --- its upload ---


def needs_upload(owner: Any, upload_id: Any) -> ColumnElement[bool]:
    """Build the condition that a prediction which has not ended reads an upload; values, or expressions."""
    lives = Job.state.in_([state for state in JobState if not state.is_final])
    named = Job.config["upload"].as_string() == upload_id
    return exists().where(Job.owner == owner, Job.kind == _KIND, lives, named)


def upload_is_whole(session: Session, owner: str, upload_id: str) -> bool:
    """Let the predictions that wait for an upload begin.

    Returns:
        Whether there are any.
    """
    waiting = _hold_waiting(session, owner, upload_id)
    for work in waiting:
        work.not_before = 0.0
        append_event(session, work.id, EventType.PHASE, reason="uploaded")
        request_wake_up(session, work.id)
    return bool(waiting)


def upload_is_gone(session: Session, owner: str, upload_id: str) -> None:
    """Let the predictions fail that wait for an upload which will never be complete."""
    for work in _hold_waiting(session, owner, upload_id):
        error = job_error("upload_missing", f"Upload {upload_id} was removed before it was complete: upload it again.")
        move(session, work.id, JobState.QUEUED, JobState.FAILED, reason="upload_missing", values={"error": error})


def _hold_waiting(session: Session, owner: str, upload_id: str) -> list[Job]:
    waiting = (Job.owner == owner, Job.kind == _KIND, Job.state == JobState.QUEUED, Job.not_before == NOT_YET)
    query = select(Job).where(*waiting, Job.config["upload"].as_string() == upload_id).order_by(Job.id)
    return list(session.scalars(query.with_for_update().execution_options(populate_existing=True)))


# --- its removal ---


def delete_prediction(session: Session, owner: str, prediction_id: str) -> list[str]:
    """Delete a prediction that has ended, with its events and results.

    Returns:
        What is to be removed from the storage once this transaction is committed: `deletion.remove_files`.

    Raises:
        PredictionNotFound: see `get_prediction`.
        IllegalTransition: it has not ended.
    """
    get_prediction(session, owner, prediction_id)
    session.execute(select(Job.id).where(Job.id == prediction_id).with_for_update())
    work = get_prediction(session, owner, prediction_id)
    if not work.state.is_final:
        raise IllegalTransition(
            f"prediction {prediction_id} is {work.shown_state}: cancel it first; only one that has ended can be deleted"
        )
    dataset_id = work.dataset_id
    for table in (PredictionSegment, JobEvent, IdempotencyKey, Outbox):
        session.execute(delete(table).where(table.job_id == prediction_id))
    session.expunge_all()
    session.execute(delete(Job).where(Job.id == prediction_id))
    if dataset_id is not None:
        datasets.forget_unseen(session, owner, dataset_id)
    key = predictions_key(prediction_id)
    session.add(Removal(key=key, created_at=now()))
    session.flush()
    return [key]


def expire(session: Session, *, keep_s: float) -> list[str]:
    """Delete predictions that ended long ago.

    Returns:
        What is to be removed from the storage once this transaction is committed.
    """
    old = (Job.kind == _KIND, Job.state.in_(_FINAL_STATES), Job.finished_at <= now() - keep_s)
    found = session.execute(select(Job.id, Job.owner).where(*old).order_by(Job.id).limit(_AT_ONCE)).all()
    keys: list[str] = []
    for row in found:
        with suppress(PredictionNotFound):  # its owner has just deleted it
            keys += delete_prediction(session, row.owner, row.id)
    return keys
