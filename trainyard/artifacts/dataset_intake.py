"""Takes in users' datasets: their submission, what follows when an upload or a validation has ended, their deletion.

A dataset's validation is a row of `jobs` of its own kind, so that it is claimed, leased, retried and drained by the
code that does so for training. Here is only what a dataset adds to that. Who locks several rows locks the validation
first, then the dataset, then jobs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, select
from sqlalchemy.orm import Session

from alexnet_core.config import DatasetFacts
from alexnet_core.errors import CoreError
from alexnet_core.layout import pack_key
from trainyard.artifacts.datasets import get_dataset, is_named
from trainyard.database.connection import now
from trainyard.database.ids import new_id
from trainyard.database.tables import NOT_YET, Dataset, IdempotencyKey, Job, JobEvent, Outbox, Removal
from trainyard.errors import Conflict, InUse
from trainyard.jobs.events import append_event
from trainyard.jobs.jobs import begin, check_texts, move, request_wake_up
from trainyard.jobs.yard_log import tell
from trainyard.scheduling.leases import job_error
from trainyard.states import DatasetState, EventType, JobState, ShownState, WorkKind, YardEventKind

UPLOADING = "uploading"  # in the data of a first event: the dataset's upload is not complete
_NAMED_USERS = 5  # jobs that a refusal to delete names

#: Completes the config of a job: given the recipe or None, the overrides and the facts, it returns recipe and config.
Completion = Callable[[str | None, dict[str, Any], DatasetFacts], tuple[str, dict[str, Any]]]


@dataclass(frozen=True)
class NewDataset:
    """A dataset to be submitted, checked and complete."""

    name: str
    source: dict[str, Any]  #: `{"upload": "upl_…"}` or `{"path": "/…"}`
    options: dict[str, Any]  #: fields of `alexnet_core.data.intake.options.IntakeOptions`
    is_whole: bool = True  #: whether all of its source is there
    parent_id: str | None = None  #: the dataset that this one is a new version of


@dataclass(frozen=True)
class MadePack:
    """What a validation made: a pack in the store."""

    facts: DatasetFacts
    digest: str
    size_bytes: int


def submit_dataset(session: Session, owner: str, new: NewDataset, *, max_failures: int) -> Dataset:
    """Submit a dataset. It and its validation are one transaction: once committed, it will be validated.

    Args:
        session: a writing one.
        owner: whose.
        new: the dataset. If its source is not whole, validation waits for `upload_is_whole`.
        max_failures: crashes of the validation, after which it is rejected.

    Raises:
        InvalidRequest: the name holds what can't be stored.
        DatasetNotFound: there is no such parent.
    """
    check_texts("name", new.name)
    if new.parent_id is not None:
        get_dataset(session, owner, new.parent_id, param="parent_id")
    dataset_id = new_id("ds")
    dataset = Dataset(
        id=dataset_id,
        owner=owner,
        name=new.name,
        state=DatasetState.VALIDATING if new.is_whole else DatasetState.UPLOADING,
        source=new.source,
        options=new.options,
        parent_id=new.parent_id,
        facts={},
        key=pack_key(dataset_id),
        created_at=now(),
    )
    session.add(dataset)
    session.flush()
    work = Job(
        id=dataset.work_id,
        kind=WorkKind.VALIDATE,
        owner=owner,
        dataset_id=dataset_id,
        recipe="",
        config=new.options,
        seed=0,
        labels={},
        max_failures=max_failures,
        not_before=0.0 if new.is_whole else NOT_YET,
        created_at=now(),
        queued_at=now(),
    )
    session.add(work)
    begin(session, work, data={} if new.is_whole else {UPLOADING: True})
    return get_dataset(session, owner, dataset_id)


def find_of_same_file(session: Session, owner: str, new: NewDataset) -> Dataset | None:
    """Return the dataset of the same file, name, options and parent that is ready or validated. None: there is none.

    Only a file that is uploaded whole can be told by its content; what stands at a path may change.
    """
    sha256 = new.source.get("sha256")
    if sha256 is None:
        return None
    usable = Dataset.state.in_((DatasetState.VALIDATING, DatasetState.READY))
    of_file = Dataset.source["sha256"].as_string() == sha256
    query = select(Dataset).where(Dataset.owner == owner, Dataset.name == new.name, usable, of_file)
    found = session.scalars(query.order_by(Dataset.created_at.desc(), Dataset.id.desc()))
    return next((it for it in found if (it.options, it.parent_id) == (new.options, new.parent_id)), None)


def needs_upload(owner: Any, upload_id: Any) -> ColumnElement[bool]:
    """Build the condition that a dataset which is not checked yet is made of an upload; values, or expressions."""
    unchecked = Dataset.state.in_((DatasetState.UPLOADING, DatasetState.VALIDATING))
    return exists().where(Dataset.owner == owner, unchecked, Dataset.source["upload"].as_string() == upload_id)


def upload_is_whole(session: Session, owner: str, upload_id: str) -> bool:
    """Let the datasets that wait for an upload be validated.

    Returns:
        Whether there are any.
    """
    waiting = _hold_waiting(session, owner, upload_id)
    for work, dataset in waiting:
        work.not_before, dataset.state = 0.0, DatasetState.VALIDATING
        append_event(session, work.id, EventType.PHASE, reason="uploaded")
        request_wake_up(session, work.id)
    return bool(waiting)


def upload_is_gone(session: Session, owner: str, upload_id: str) -> None:
    """Reject the datasets that wait for an upload which will never be complete."""
    for work, _ in _hold_waiting(session, owner, upload_id):
        error = job_error("upload_missing", f"Upload {upload_id} was removed before it was complete: upload it again.")
        move(session, work.id, JobState.QUEUED, JobState.FAILED, reason="upload_missing", values={"error": error})
        settle(session, work.id)


def _hold_waiting(session: Session, owner: str, upload_id: str) -> list[tuple[Job, Dataset]]:
    named = Dataset.source["upload"].as_string() == upload_id
    waiting = (Dataset.owner == owner, Dataset.state == DatasetState.UPLOADING, named)
    found = list(session.scalars(select(Dataset).where(*waiting).order_by(Dataset.id)))
    held = []
    for each in found:
        work = session.scalars(_locked_work(each.work_id)).one_or_none()
        dataset = _lock(session, each.id)
        if work is not None and dataset is not None and dataset.state is DatasetState.UPLOADING:
            held.append((work, dataset))
    return held


def settle(
    session: Session,
    work_id: str,
    *,
    made: MadePack | None = None,
    report: dict[str, Any] | None = None,
    complete: Completion | None = None,
) -> None:
    """Make a dataset ready or rejected, if its validation has ended, and go on with the jobs that wait for it.

    Call it in the transaction in which the validation ends. Jobs that can't be trained on what the dataset turned out
    to be fail now, with the reason, and not when their turn would have come.

    Args:
        session: a writing one.
        work_id: the validation; nothing is done if it has not ended.
        made: what a successful one made.
        report: what was found.
        complete: for the jobs that wait for a ready dataset.
    """
    session.flush()
    work = session.scalars(_locked_work(work_id)).one_or_none()
    if work is None or work.kind is not WorkKind.VALIDATE or not work.state.is_final:
        return
    dataset = _lock(session, work.dataset_id)
    if dataset is None or dataset.state not in {DatasetState.UPLOADING, DatasetState.VALIDATING}:
        return
    dataset.report = report
    if work.state is JobState.SUCCEEDED:
        assert made is not None, "a successful validation has made a pack"
        dataset.state, dataset.ready_at = DatasetState.READY, session.scalar(select(now()))
        dataset.facts, dataset.digest, dataset.size_bytes = (
            made.facts.model_dump(mode="json"),
            made.digest,
            made.size_bytes,
        )
        dataset.same_as = _find_same(session, dataset)
    else:
        dataset.state = DatasetState.REJECTED
        dataset.error = work.error or job_error("cancelled", "Its validation was cancelled.")
    session.flush()
    for job in _hold_waiting_jobs(session, dataset):
        if made is None:
            text = f"Dataset {dataset.id} was rejected: {(dataset.error or {}).get('message')}"
            _fail(session, job, "dataset_rejected", text)
        else:
            assert complete is not None, "jobs may wait for the dataset"
            _release(session, job, made.facts, complete)


def dataset_state_after(event: JobEvent) -> DatasetState:
    """Return the state of a dataset after an event of its validation."""
    if event.state is ShownState.SUCCEEDED:
        return DatasetState.READY
    if event.state in {ShownState.FAILED, ShownState.CANCELLED}:
        return DatasetState.REJECTED
    return DatasetState.UPLOADING if event.data.get(UPLOADING) else DatasetState.VALIDATING


def _find_same(session: Session, dataset: Dataset) -> str | None:
    same = (Dataset.owner == dataset.owner, Dataset.digest == dataset.digest, Dataset.state == DatasetState.READY)
    oldest = select(Dataset.id).where(*same, Dataset.id != dataset.id).order_by(Dataset.created_at, Dataset.id)
    return session.scalar(oldest.limit(1))


def _hold_waiting_jobs(session: Session, dataset: Dataset) -> list[Job]:
    of_dataset = (Job.owner == dataset.owner, Job.kind == WorkKind.TRAIN, Job.dataset_id == dataset.id)
    lives = Job.state.in_((JobState.QUEUED, JobState.PAUSED))
    waiting = select(Job).where(*of_dataset, lives, Job.not_before == NOT_YET).order_by(Job.id).with_for_update()
    return list(session.scalars(waiting.execution_options(populate_existing=True)))


def _release(session: Session, job: Job, facts: DatasetFacts, complete: Completion) -> None:
    try:
        job.recipe, job.config = complete(job.config.get("recipe"), job.config.get("overrides") or {}, facts)
    except CoreError as exc:
        _fail(session, job, exc.code, f"The job can't be trained on the dataset: {exc}")
        return
    job.not_before = 0.0
    tell(session, job.owner, YardEventKind.JOB, job.id)
    if job.state is JobState.QUEUED:
        request_wake_up(session, job.id)


def _fail(session: Session, job: Job, code: str, message: str) -> None:
    move(session, job.id, job.state, JobState.FAILED, reason=code, values={"error": job_error(code, message)})


def delete_dataset(session: Session, owner: str, reference: str) -> list[str]:
    """Delete a dataset, its validation and, once this transaction is committed, its files.

    While jobs that have ended name it, its row stays, and nobody sees it. A worker that validates it at this moment
    loses its lease and stops.

    Returns:
        What is to be removed from the store: `deletion.remove_files`.

    Raises:
        DatasetNotFound: see `datasets.get_dataset`.
        Conflict: it is built in.
        InUse: jobs that have not ended need it.
    """
    found = get_dataset(session, owner, reference, param="dataset_id")
    if found.owner is None:
        raise Conflict(f"dataset {found.id} is built in: it can't be deleted", param="dataset_id")
    session.scalars(_locked_work(found.work_id)).one_or_none()
    dataset = _lock(session, found.id)
    if dataset is None or dataset.state is DatasetState.DELETED:
        return []  # another request was faster
    _refuse_if_in_use(session, dataset)
    work = Job.id == dataset.work_id
    for table in (JobEvent, IdempotencyKey, Outbox):
        session.execute(delete(table).where(table.job_id == dataset.work_id))
    session.execute(delete(Job).where(work).execution_options(synchronize_session=False))
    if not session.scalar(select(is_named(owner, dataset.id))):
        session.delete(dataset)
    else:
        dataset.state, dataset.report = DatasetState.DELETED, None
    session.add(Removal(key=dataset.key, created_at=now()))
    tell(session, owner, YardEventKind.GONE, dataset.id)
    return [dataset.key]


def _refuse_if_in_use(session: Session, dataset: Dataset) -> None:
    kinds = (WorkKind.TRAIN, WorkKind.PREDICT)
    of_dataset = (Job.owner == dataset.owner, Job.kind.in_(kinds), Job.dataset_id == dataset.id)
    lives = Job.state.in_([state for state in JobState if not state.is_final])
    users = list(session.scalars(select(Job.id).where(*of_dataset, lives).order_by(Job.id).limit(_NAMED_USERS + 1)))
    if users:
        named = ", ".join(users[:_NAMED_USERS]) + (" and more" if len(users) > _NAMED_USERS else "")
        raise InUse(f"dataset {dataset.id} is needed by {named}: cancel them, or wait for their end")


def _locked_work(work_id: str) -> Any:
    return select(Job).where(Job.id == work_id).with_for_update().execution_options(populate_existing=True)


def _lock(session: Session, dataset_id: str) -> Dataset | None:
    query = select(Dataset).where(Dataset.id == dataset_id).with_for_update()
    return session.scalars(query.execution_options(populate_existing=True)).one_or_none()
