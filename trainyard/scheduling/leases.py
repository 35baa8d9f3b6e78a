"""Leases: a worker's time-limited right to write for a job's attempt.

A claim raises the job's fencing token (`lease_epoch`), and every later write of the worker names that token. A write
with an older token, or after the lease was taken away, changes nothing and raises `LeaseLost`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Update, bindparam, func, literal, select, update
from sqlalchemy.orm import InstrumentedAttribute, Session, joinedload

from trainyard.database.connection import now, read_clock, update_rows
from trainyard.database.numbers import Numbers, next_number
from trainyard.database.repeated import REPEATED
from trainyard.database.tables import NOT_YET, Checkpoint, Job, JobRow
from trainyard.errors import LeaseLost
from trainyard.jobs.events import append_event
from trainyard.jobs.failures import DISK_FULL_WAIT_S, FAILURES, MAX_BACKOFF_S, backoff_s, get_failure
from trainyard.jobs.jobs import move
from trainyard.scheduling.claim_order import in_turn
from trainyard.states import CheckpointStatus, Desired, EventType, JobState, WorkKind

SILENT_CLAIM_S = 1.5
CLAIMED = "claimed"  # the reason of the move that a claim makes
FINISHED = "finished"  # and of the one that a success makes
TURN_LOCK = 7_265_110_216  # PostgreSQL advisory lock, held by the one transaction that claims
_TURN = select(
    func.set_config("idle_in_transaction_session_timeout", str(round(1000 * SILENT_CLAIM_S)), literal(True)),
    func.pg_advisory_xact_lock(literal(TURN_LOCK, BigInteger)),
    now().label("moment"),  # PostgreSQL computes them in their order
)


@dataclass(frozen=True)
class Lease:
    """The right to write for one attempt of a job."""

    job_id: str
    lease_epoch: int
    worker_id: str

    @property
    def guards(self) -> tuple[ColumnElement[bool], ...]:
        """The conditions under which a write for this attempt is accepted."""
        return (
            Job.id == self.job_id,
            Job.lease_epoch == self.lease_epoch,
            Job.lease_owner == self.worker_id,
            Job.state == JobState.RUNNING,
        )

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the values of the parameters in `GUARDS`."""
        return {"of_job": self.job_id, "of_epoch": self.lease_epoch, "of_worker": self.worker_id}

    def lost(self) -> LeaseLost:
        """Return the error for a write after the lease ended."""
        return LeaseLost(f"{self.job_id}: the lease {self.lease_epoch} of {self.worker_id} is over")


_PARAMETERS: Any = (bindparam(name) for name in ("of_job", "of_epoch", "of_worker"))
GUARDS = Lease(*_PARAMETERS).guards


@dataclass(frozen=True)
class Ending:
    """How an attempt ended, as its worker reports it."""

    succeeded: bool = False
    stopped: str | None = None  #: `cancel`, `pause` or `drain`: it stopped because it was told to
    failure: str | None = None  #: a code of `failures.FAILURES`
    message: str | None = None  #: what happened, for `error.message`
    is_jobs_fault: bool = True  #: False: the failure does not count, whatever its code: the database was away, say
    test: dict[str, Any] | None = None
    weights_sha256: str | None = None


def claim(
    session: Session,
    worker_id: str,
    ttl_s: float,
    *,
    slot: int = 0,
    max_running_per_owner: int | None = None,
    kind: WorkKind = WorkKind.TRAIN,
) -> tuple[Job, Lease] | None:
    """Take the job whose turn it is (see `claim_order`); None if there is none.

    Only one claim runs at a time, so each sees what the one before took, and no two together exceed an owner's limit. A
    row that another transaction has locked is left for later.
    """
    moment = _wait_for_turn(session)
    columns = columns_of_claim(next_number(session, Numbers.CLAIMS), worker_id, ttl_s, slot)
    for turn in in_turn(session, moment, max_running_per_owner, kind=kind):
        if move(
            *(session, turn.job_id, JobState.QUEUED, JobState.RUNNING),
            reason=CLAIMED,
            guards=(is_free(turn.job_id),),
            values=columns,
            worker_id=worker_id,
        ):
            job = session.scalars(select(Job).where(Job.id == turn.job_id).options(joinedload(Job.dataset))).one()
            if job.progress is not None:  # an earlier attempt's
                job.progress = _progress_of_resumption(session, job) if kind is WorkKind.TRAIN else None
                session.flush()
            return job, Lease(job.id, job.lease_epoch, worker_id)
    return None


def columns_of_claim(number: Any, worker_id: Any, ttl_s: Any, slot: Any) -> dict[str, Any]:
    """Return the columns that a claim writes beside the state, from values or expressions."""
    return {
        "lease_epoch": Job.lease_epoch + 1,
        "attempt": Job.attempt + 1,
        "claim_number": number,
        "lease_owner": worker_id,
        "slot": slot,
        "lease_expires_at": now() + ttl_s,
        "heartbeat_at": now(),
    }


def is_free(job_id: Any) -> ColumnElement[bool]:
    """Build the condition that a job, by its id or an expression, may be claimed and that nobody holds its row."""
    free = select(Job.id).where(Job.id == job_id, Job.desired == Desired.RUN)
    return Job.id == free.with_for_update(skip_locked=True).scalar_subquery()


def resumable_checkpoints(job_id: str | InstrumentedAttribute[str]) -> Select[Checkpoint]:
    """Select the checkpoints that a job can resume from: committed, with training state, the furthest first."""
    whole = (Checkpoint.status == CheckpointStatus.COMMITTED, Checkpoint.has_state)
    own = select(Checkpoint).where(Checkpoint.job_id == job_id, *whole, Checkpoint.state_pruned_at.is_(None))
    return own.order_by(Checkpoint.step.desc(), Checkpoint.lease_epoch.desc())


def _progress_of_resumption(session: Session, job: Job) -> dict[str, Any]:
    """Return where the new attempt begins: steps that the earlier one did not save are made again."""
    start = session.scalars(resumable_checkpoints(job.id).limit(1)).one_or_none()
    step, steps = start.step if start is not None else 0, (job.progress or {}).get("steps")
    place = {"step": step, "epoch": start.epoch if start is not None else 0, "fraction": step / steps if steps else 0.0}
    return (job.progress or {}) | place | {"images_per_s": None, "eta_s": None}


def _wait_for_turn(session: Session) -> float:
    """Wait until no other transaction claims (on SQLite none can), and return the database's time.

    PostgreSQL ends a transaction that holds the turn and is silent for `SILENT_CLAIM_S`, because a worker that freezes
    within its claim would hold up all others. From here to the commit every statement counts: they determine how many
    claims a second a whole fleet can make.
    """
    if session.get_bind().dialect.name != "postgresql":
        return read_clock(session)
    return float(session.connection().execute(_TURN).one().moment)


def heartbeat(session: Session, lease: Lease, ttl_s: float, **columns: Any) -> Desired:
    """Extend a lease, write what is new (progress), and read what the owner wants.

    Raises:
        LeaseLost: the lease is over.
    """
    given = {f"new_{name}": value for name, value in columns.items()}
    statement = _build_heartbeat(tuple(columns))
    (desired,) = _run_fenced(session, lease, statement, {"ttl_s": ttl_s} | given)
    return Desired(desired)


@cache
def _build_heartbeat(names: tuple[str, ...]) -> Update:
    columns: dict[str, Any] = {name: bindparam(f"new_{name}") for name in names}
    return (
        update(Job)
        .where(*GUARDS)
        .values(extended_lease() | columns)
        .returning(Job.desired)
        .execution_options(**REPEATED)
    )


def extended_lease() -> dict[str, Any]:
    """Return what a heartbeat writes of the lease itself, with the parameter `ttl_s`."""
    return {"heartbeat_at": now(), "lease_expires_at": now() + bindparam("ttl_s")}


def read_fenced(session: Session, lease: Lease, *columns: InstrumentedAttribute[Any]) -> tuple[Any, ...]:
    """Read columns of the job if the lease still holds, and lock its row until the end of this transaction.

    Raises:
        LeaseLost: it does not.
    """
    return _run_fenced(session, lease, _build_reading(columns), {})


@cache
def _build_reading(columns: tuple[InstrumentedAttribute[Any], ...]) -> Select[Any]:
    return select(*columns).where(*GUARDS).with_for_update()


def write_fenced(session: Session, lease: Lease, values: dict[str, Any]) -> Desired:
    """Write columns of the job if the lease still holds.

    Returns:
        The job's `desired`.

    Raises:
        LeaseLost: it does not; nothing was written.
    """
    (desired,) = _run_fenced(session, lease, update(Job).where(*GUARDS).values(values).returning(Job.desired), {})
    return Desired(desired)


def _run_fenced(
    session: Session, lease: Lease, statement: Update | Select[Any], given: dict[str, Any]
) -> tuple[Any, ...]:
    session.flush()
    row = session.connection().execute(statement, lease.parameters | given).one_or_none()
    if row is None:
        raise lease.lost()
    return tuple(row)


def report_event(
    session: Session,
    lease: Lease,
    event_type: EventType,
    *,
    reason: str | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Write an event of the attempt.

    Raises:
        LeaseLost: the lease is over.
    """
    read_fenced(session, lease, Job.id)
    append_event(session, lease.job_id, event_type, reason=reason, worker_id=lease.worker_id, data=data)


def end_attempt(session: Session, lease: Lease, ending: Ending, *, first_backoff_s: float) -> JobState:
    """End an attempt. The job's next state follows from how the attempt ended and from the desired state.

    Returns:
        The job's new state.

    Raises:
        LeaseLost: the lease is over.
    """
    locked = select(Job.id, Job.desired, Job.failures, Job.max_failures).where(*lease.guards).with_for_update()
    job: Any = session.connection().execute(locked).one_or_none()
    if job is None:
        raise lease.lost()
    return _release(session, job, ending, lease.guards, first_backoff_s, worker_id=lease.worker_id)


def reap(session: Session, moment: float, *, first_backoff_s: float) -> list[str]:
    """Take back every job whose lease ran out before a moment.

    Args:
        session: a writing one.
        moment: by the database's clock, when the reaper looked whether it was late itself: a process that is frozen
            after that look takes no lease that was alive then.
        first_backoff_s: wait before the first retry.

    Returns:
        The ids of the jobs taken back.
    """
    expired = (
        select(Job)
        .where(Job.state == JobState.RUNNING, Job.lease_expires_at < moment)
        .with_for_update(skip_locked=True)
    )
    reaped = []
    for job in session.scalars(expired).all():
        guards = (Job.lease_epoch == job.lease_epoch, Job.lease_expires_at < moment)
        _release(session, job, Ending(failure="lease_lost"), guards, first_backoff_s, worker_id=job.lease_owner)
        reaped.append(job.id)
    return reaped


def grant_grace(session: Session, until: float, *, seen_since: float) -> int:
    """Extend the leases of workers that may have been asleep at the same time as the reaper.

    Args:
        session: a writing one.
        until: the moment to which they live at least.
        seen_since: only leases with a heartbeat after this moment; a worker that was silent before is none that slept
            with the reaper, and would else live as long as the reaper is late.

    Returns:
        The number of leases that were extended.
    """
    statement = (
        update(Job)
        .where(Job.state == JobState.RUNNING, Job.lease_expires_at < until, Job.heartbeat_at > seen_since)
        .values(lease_expires_at=until)
    )
    return update_rows(session, statement.execution_options(synchronize_session=False))


def follow_clock_back(session: Session, moment: float, ttl_s: float) -> int:
    """Correct times that are too far in the future because the database's clock was set back.

    Otherwise, until the clock is where it was, a dead worker's lease would stay valid, a job would wait for its next
    try, and a job queued earlier would be behind all that come later. Places in the queue move together, so that those
    jobs keep their order, including a running job that may come back.

    Args:
        session: a writing one.
        moment: by the database's clock.
        ttl_s: how long the leases of the future live on; a clock that was set back by less is left to itself.

    Returns:
        The number of leases, waits and places that were brought back.
    """
    held = (
        update(Job)
        .where(Job.state == JobState.RUNNING, Job.heartbeat_at > moment + ttl_s)
        .values(heartbeat_at=moment, lease_expires_at=moment + ttl_s)
    )
    waiting = (
        update(Job)
        .where(Job.state == JobState.QUEUED, Job.not_before > moment + max(MAX_BACKOFF_S, DISK_FULL_WAIT_S))
        .where(Job.not_before < NOT_YET)
        .values(not_before=moment)
    )
    brought_back = sum(
        update_rows(session, statement.execution_options(synchronize_session=False)) for statement in (held, waiting)
    )
    return brought_back + _bring_places_back(session, moment, ttl_s)


def _bring_places_back(session: Session, moment: float, ttl_s: float) -> int:
    """Correct places in the queue: the newest gets the present time, the others keep their distance to it."""
    keeps_place = Job.state.in_((JobState.QUEUED, JobState.RUNNING))
    ahead = (keeps_place, Job.queued_at > moment + ttl_s)
    newest = session.scalar(select(func.max(Job.queued_at)).where(*ahead))
    if newest is None:
        return 0
    places = update(Job).where(*ahead).values(queued_at=Job.queued_at - (newest - moment))
    return update_rows(session, places.execution_options(synchronize_session=False))


def _release(
    session: Session,
    job: Job | JobRow,
    ending: Ending,
    guards: tuple[ColumnElement[bool], ...],
    first_backoff_s: float,
    *,
    worker_id: str | None,
) -> JobState:
    target, reason, values = _verdict(job, ending, first_backoff_s)
    if not move(
        session, job.id, JobState.RUNNING, target, reason=reason, guards=guards, values=values, worker_id=worker_id
    ):
        raise LeaseLost(f"{job.id}: the lease was lost while the attempt ended")
    return target


def _verdict(job: Job | JobRow, ending: Ending, first_backoff_s: float) -> tuple[JobState, str, dict[str, Any]]:
    """Return the next state, its reason and the columns to write. A cancel comes before everything, even success."""
    if job.desired == Desired.CANCEL:
        return JobState.CANCELLED, "cancelled", {}
    if ending.succeeded:
        return JobState.SUCCEEDED, FINISHED, {"test": ending.test, "weights_sha256": ending.weights_sha256}
    if ending.stopped is not None:
        if job.desired == Desired.PAUSE:
            return JobState.PAUSED, "paused", {}
        return JobState.QUEUED, ending.stopped, {"not_before": 0.0}
    assert ending.failure is not None
    failure = get_failure(ending.failure)
    message = ending.message or failure.sentence
    if not failure.retryable:
        return JobState.FAILED, failure.code, {"error": job_error(failure.code, message)}
    counts = failure.counts and ending.is_jobs_fault
    failures = job.failures + counts
    values: dict[str, Any] = {"failures": failures}
    if failures >= job.max_failures and counts:
        text = f"{FAILURES['crash_loop'].sentence} {failures} failures; the last: {failure.code}: {message}"
        return JobState.FAILED, "crash_loop", values | {"error": job_error("crash_loop", text)}
    if job.desired == Desired.PAUSE:
        return JobState.PAUSED, failure.code, values
    waits = failure.code in {"disk_full", "storage_unavailable"}
    wait_s = DISK_FULL_WAIT_S if waits else backoff_s(failures, first_backoff_s)
    return JobState.QUEUED, failure.code, values | {"not_before": now() + wait_s}


def job_error(code: str, message: str) -> dict[str, Any]:
    """Return the `error` of a failed job. `retryable` says whether the same request may succeed when sent again."""
    return {"type": "training_error", "code": code, "message": message, "retryable": code in {"crash_loop"}}
