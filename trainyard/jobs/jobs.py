"""Jobs as their owner uses them: submit, look, cancel, pause and resume. Only `move` writes a job's state."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, Update, bindparam, case, func, select, update
from sqlalchemy.orm import Session, joinedload

from trainyard.database.connection import now
from trainyard.database.ids import has_form, new_id
from trainyard.database.tables import NOT_YET, Dataset, Job, JobRow, Outbox
from trainyard.errors import IllegalTransition, InvalidRequest, JobNotFound
from trainyard.jobs.events import append_event, change_and_tell, has_event
from trainyard.jobs.metadata_index import label_rows
from trainyard.serving_errors import PredictionNotFound
from trainyard.states import MOVES, Desired, EventType, JobState, ShownState, WorkKind

RESUMED = "resumed"  # the reason of the move that a resume makes
ID_PREFIXES = {WorkKind.TRAIN: "job", WorkKind.VALIDATE: "val", WorkKind.PREDICT: "pred"}
_WORDS = {WorkKind.TRAIN: "job", WorkKind.VALIDATE: "validation", WorkKind.PREDICT: "prediction"}

_ROWS = select(*(column.label("labels") if column.name == "metadata" else column for column in Job.__table__.c))
_SOME_ROWS = _ROWS.where(Job.id.in_(bindparam("job_ids", expanding=True)), Job.owner == bindparam("owner"))


@dataclass(frozen=True)
class NewJob:
    """A job to be submitted, checked and complete."""

    recipe: str
    config: dict[str, Any]  #: a complete TrainConfig
    seed: int
    max_failures: int
    name: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    priority: int = 0
    max_runtime_s: float | None = None
    init_from: str | None = None  #: a checkpoint that the caller has locked
    parent_id: str | None = None  #: of a retry: the job that it repeats
    resume_from: str | None = None  #: of a retry: a checkpoint that the caller has locked
    dataset_digest: str | None = None  #: of a retry: of the pack that the checkpoint was trained on
    best: dict[str, Any] | None = None  #: of a retry: the best epoch up to that checkpoint
    waits_for_dataset: bool = False  #: it must not begin before its dataset is ready


def submit(session: Session, owner: str, dataset: Dataset, new: NewJob) -> Job:
    """Queue a job. Job, event and wake-up message are one transaction: once committed, the job will run.

    Raises:
        InvalidRequest: the name or the metadata holds what can't be stored.
    """
    check_texts("name", new.name or "")
    check_texts("metadata", *new.metadata, *new.metadata.values())
    job = Job(
        id=new_id("job"),
        owner=owner,
        name=new.name,
        dataset_id=dataset.id,
        dataset_digest=new.dataset_digest,
        recipe=new.recipe,
        config=new.config,
        seed=new.seed,
        labels=dict(new.metadata),
        priority=new.priority,
        max_runtime_s=new.max_runtime_s,
        init_from=new.init_from,
        parent_id=new.parent_id,
        resume_from=new.resume_from,
        best=new.best,
        max_failures=new.max_failures,
        not_before=NOT_YET if new.waits_for_dataset else 0.0,
        created_at=now(),
        queued_at=now(),
    )
    session.add(job)
    session.flush()
    session.add_all(label_rows(job, new.metadata))
    begin(session, job)
    return get_job(session, owner, job.id)


def begin(session: Session, job: Job, *, data: dict[str, Any] | None = None) -> None:
    """Write the first event of a row that was just added, and the wake-up message unless it waits for something."""
    session.flush()
    append_event(session, job.id, EventType.STATE, reason="submitted", data=data)
    if job.not_before < NOT_YET:
        request_wake_up(session, job.id)


def check_texts(param: str, *texts: str) -> None:
    """Refuse text that PostgreSQL (a NUL) or both drivers (a lone surrogate) can't store."""
    for text in texts:
        if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text):
            raise InvalidRequest(
                f"{param} holds {text[:100]!r}: NUL and half a surrogate pair are not allowed", param=param
            )


def get_job(session: Session, owner: str, job_id: str, *, kind: WorkKind = WorkKind.TRAIN) -> Job:
    """Return a job, or another kind of work, with its dataset.

    Raises:
        JobNotFound, PredictionNotFound: there is none of this id, or it is another owner's.
    """
    query = select(Job).where(Job.id == job_id, Job.owner == owner).options(joinedload(Job.dataset))
    job = None
    if has_form(job_id, ID_PREFIXES[kind]):
        job = session.scalars(query.execution_options(populate_existing=True)).one_or_none()
    if job is None:
        raise no_such_prediction(job_id) if kind is WorkKind.PREDICT else no_such_job(job_id)
    return job


def read_job(session: Session, owner: str, job_id: str) -> JobRow:
    """Return only the columns of a job, to be shown, at a quarter of the cost of `get_job`.

    Raises:
        JobNotFound: see `get_job`.
    """
    rows = read_jobs(session, owner, [job_id])
    if not rows:
        raise no_such_job(job_id)
    return rows[0]


def read_jobs(session: Session, owner: str, job_ids: Iterable[str]) -> list[JobRow]:
    """Return the columns of several jobs, to be shown. Jobs that don't exist are left out."""
    given = {"job_ids": [job_id for job_id in job_ids if has_form(job_id, "job")], "owner": owner}
    return list(session.connection().execute(_SOME_ROWS, given))


def select_columns() -> Select[Any]:
    """Select only the columns of jobs, to be shown: each result is a `JobRow`."""
    return _ROWS


def no_such_job(job_id: str) -> JobNotFound:
    """Return the error for a job that does not exist."""
    return JobNotFound(f"there is no job {job_id!r}: `GET /jobs` lists yours", param="job_id")


def no_such_prediction(prediction_id: str) -> PredictionNotFound:
    """Return the error for a prediction that does not exist."""
    return PredictionNotFound(
        f"there is no prediction {prediction_id!r}: `GET /predictions` lists yours", param="prediction_id"
    )


def cancel(session: Session, owner: str, job_id: str, *, kind: WorkKind = WorkKind.TRAIN) -> Job:
    """Ask for the end of a job: at once if no worker has it, else after its current step. Repeating it is harmless.

    Raises:
        JobNotFound, PredictionNotFound: see `get_job`.
        IllegalTransition: the job ended in another way before.
    """

    def act(job: Job) -> bool:
        state = job.state
        if state is JobState.CANCELLED:
            return True
        if state.is_final:
            raise IllegalTransition(f"{_WORDS[kind]} {job_id} is {job.state} already: a final state never changes")
        if state is JobState.RUNNING:
            return _ask_running_job(session, job, Desired.CANCEL)
        return move(session, job.id, state, JobState.CANCELLED, reason="cancelled", values={"desired": "cancel"})

    return _win(session, owner, job_id, act, kind)


def pause(session: Session, owner: str, job_id: str) -> Job:
    """Pause a job until a resume: at once if no worker has it, else after its current step. Repeating is harmless.

    Raises:
        JobNotFound: see `get_job`.
        IllegalTransition: the job has ended or is told to.
    """

    def act(job: Job) -> bool:
        shown = job.shown_state
        if shown in {ShownState.PAUSED, ShownState.PAUSING}:
            return True
        if shown is ShownState.RUNNING:
            return _ask_running_job(session, job, Desired.PAUSE)
        if shown is not ShownState.QUEUED:
            raise IllegalTransition(f"job {job_id} is {shown}: only a queued or running job can be paused")
        return move(session, job.id, JobState.QUEUED, JobState.PAUSED, reason="paused", values={"desired": "pause"})

    return _win(session, owner, job_id, act)


def _win(session: Session, owner: str, job_id: str, act: Callable[[Job], bool], kind: WorkKind = WorkKind.TRAIN) -> Job:
    """Act on a job, and try again if a worker claimed or released it between our reading and our writing.

    Args:
        session: a writing one.
        owner: whose.
        job_id: which job.
        act: writes, given what was just seen; False: the job was another by then, and nothing was written.
        kind: of work.

    Returns:
        The job after it.
    """
    job = get_job(session, owner, job_id, kind=kind)
    for _ in range(3):
        done = act(job)
        job = get_job(session, owner, job_id, kind=kind)
        if done:
            return job
    raise IllegalTransition(f"{_WORDS[kind]} {job_id} is changing too fast right now ({job.shown_state}): try again")


def resume(session: Session, owner: str, job_id: str) -> Job:
    """Put a paused job back into the queue, to go on from its newest checkpoint. Repeating it is harmless.

    Raises:
        JobNotFound: see `get_job`.
        IllegalTransition: the job is not paused, and not because it was resumed before.
    """
    job = get_job(session, owner, job_id)
    if job.state == JobState.PAUSED:
        waits = case((Job.not_before == NOT_YET, NOT_YET), else_=0.0)  # not what was read: it may be ready meanwhile
        move(session, job.id, JobState.PAUSED, JobState.QUEUED, reason=RESUMED, values={"not_before": waits})
        job = get_job(session, owner, job_id)
    goes_on = job.shown_state in {ShownState.QUEUED, ShownState.RUNNING}
    if goes_on and has_event(session, job.id, EventType.STATE, RESUMED):
        return job
    hint = (
        ": wait until it is paused" if job.shown_state is ShownState.PAUSING else ": only a paused job can be resumed"
    )
    raise IllegalTransition(f"job {job_id} is {job.shown_state}{hint}")


def _ask_running_job(session: Session, job: Job, desired: Desired) -> bool:
    """Write the desired state of a running job, which its worker reads within a tick. False: it just changed."""
    if job.desired == desired:
        return True
    running = update(Job).where(Job.id == job.id, Job.state == JobState.RUNNING, Job.desired == job.desired)
    return change_and_tell(session, running.values(desired=desired), EventType.STATE, reason="requested") is not None


def move(
    session: Session,
    job_id: str,
    origin: JobState,
    target: JobState,
    *,
    reason: str,
    guards: tuple[ColumnElement[bool], ...] = (),
    values: dict[str, Any] | None = None,
    worker_id: str | None = None,
) -> bool:
    """Change a job's state by one compare-and-set, with its event (and wake-up message) in the same transaction.

    Args:
        session: a writing one.
        job_id: which job.
        origin: the state that it must be in.
        target: the state that it gets.
        reason: machine-readable, for `state_reason` and the event.
        guards: more conditions that must hold, such as the fencing token.
        values: more columns to write.
        worker_id: who moves it, where a worker does.

    Returns:
        Whether it was moved; False: the job was in another state, or a guard did not hold, and nothing was written.

    Raises:
        AssertionError: no such move exists: a mistake of ours.
    """
    guards = (Job.id == job_id, *guards)
    statement = build_move(origin, target, reason=reason, guards=guards, values=values or {})
    if change_and_tell(session, statement, EventType.STATE, reason=reason, worker_id=worker_id) is None:
        return False
    if target is JobState.QUEUED:
        request_wake_up(session, job_id)
    return True


def build_move(
    origin: JobState, target: JobState, *, reason: str, guards: tuple[ColumnElement[bool], ...], values: dict[str, Any]
) -> Update:
    """Build the compare-and-set of `move`, for a job that the guards name."""
    assert target in MOVES[origin], f"no move from {origin} to {target}"
    columns = _columns_of_move(origin, target) | {"state_reason": reason} | values
    return update(Job).where(Job.state == origin, *guards).values(columns)


def _columns_of_move(origin: JobState, target: JobState) -> dict[str, Any]:
    columns: dict[str, Any] = {"state": target}
    if target is JobState.RUNNING:
        columns |= {"started_at": func.coalesce(Job.started_at, now())}
    if origin is JobState.RUNNING:
        columns |= {"lease_owner": None, "lease_expires_at": None}
    if target is JobState.QUEUED:
        columns |= {"desired": Desired.RUN}
        if origin is JobState.PAUSED:  # a job that its worker gives back, or whose lease ran out, keeps its place
            columns |= {"queued_at": now()}
    if target.is_final:
        columns |= {"finished_at": now()}
    return columns


def request_wake_up(session: Session, job_id: str) -> None:
    """Write a message into the outbox that wakes workers for a job."""
    session.add(Outbox(job_id=job_id, created_at=now()))
    session.flush()
