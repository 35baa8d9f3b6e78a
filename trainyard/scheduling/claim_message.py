"""A claim is one message to PostgreSQL: the server waits for the lock, takes the job and commits.

Claims come one at a time, so each delays the others for as long as it holds the lock. During that time nothing depends
on the client: not how fast it computes, how far away it is, or whether it freezes. `leases.claim` makes the same claim
in a transaction of its caller's, on any database. Both follow the order of `claim_order`.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any

from psycopg import sql
from sqlalchemy import (
    JSON,
    ColumnElement,
    Float,
    Integer,
    String,
    case,
    cast,
    exists,
    func,
    literal,
    literal_column,
    null,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import aliased

from trainyard.database.connection import Database, now, read_clock
from trainyard.database.numbers import Numbers
from trainyard.database.tables import Checkpoint, Job
from trainyard.jobs.events import with_its_event
from trainyard.jobs.jobs import build_move
from trainyard.logs import request_id
from trainyard.scheduling.claim_order import first_in_turn, in_turn
from trainyard.scheduling.held_jobs import find_held, holds
from trainyard.scheduling.leases import (
    CLAIMED,
    TURN_LOCK,
    Lease,
    claim,
    columns_of_claim,
    is_free,
    resumable_checkpoints,
)
from trainyard.states import EventType, JobState, WorkKind

TURN_WITHIN_S = 9.0  # the server gives up before its client does: nobody would know of the claim
_WORKER, _SLOT = literal_column("{worker_id}", String()), literal_column("{slot}", Integer())
_TTL_S, _MAX_RUNNING = literal_column("{ttl_s}", Float()), literal_column("{max_running}", Integer())
_REQUEST = literal_column("{request_id}", String())
_DIALECT: Any = postgresql.dialect
_BUILDING = threading.Lock()
_WAIT = (
    "SELECT set_config('lock_timeout', coalesce(nullif(current_setting('lock_timeout'), '0'), {turn_within_ms}), true),"
    f" pg_advisory_xact_lock({TURN_LOCK})"
)


def claim_at_once(
    database: Database,
    worker_id: str,
    ttl_s: float,
    *,
    slot: int = 0,
    max_running_per_owner: int | None = None,
    kind: WorkKind = WorkKind.TRAIN,
) -> tuple[Job, Lease] | None:
    """Claim the job whose turn it is, for a slot that has no job, and commit the claim. Return None if no job waits.

    A slot that has a job after all gets that job, so that a claim whose answer was lost does no harm.

    Raises:
        DatabaseUnavailable: see `Database.writing`. The claim may have been made: `held_jobs.find_held` tells.
    """
    if database.engine.dialect.name != "postgresql":
        with database.writing() as session:
            return claim(session, worker_id, ttl_s, slot=slot, max_running_per_owner=max_running_per_owner, kind=kind)
    with database.autocommitting() as session:
        message = _build_message(worker_id, ttl_s, slot, max_running_per_owner, kind)
        session.connection().exec_driver_sql(message, execution_options={"no_parameters": True}).close()
        held = find_held(session, worker_id, slot=slot, kind=kind)
        if held is not None:
            return held
        if next(in_turn(session, read_clock(session), max_running_per_owner, kind=kind), None) is None:
            return None
    with database.writing() as session:  # somebody else held the row of the job whose turn it was
        return claim(session, worker_id, ttl_s, slot=slot, max_running_per_owner=max_running_per_owner, kind=kind)


def _build_message(worker_id: str, ttl_s: float, slot: int, max_running_per_owner: int | None, kind: WorkKind) -> str:
    """Fill in the message. Its two statements are one transaction, because no other is open.

    Each statement sees what was committed before it began, so the second sees the claim that the first waited for.
    """
    values = {"worker_id": worker_id, "slot": slot, "ttl_s": float(ttl_s), "max_running": max_running_per_owner}
    limit = {"turn_within_ms": str(round(1000 * TURN_WITHIN_S))}
    with _BUILDING:  # one builds it, and those who claim at the same time wait for that
        message = _message(kind)
    return message.format(**values, **limit, request_id=request_id.get()).as_string()


@cache
def _message(kind: WorkKind) -> sql.SQL:
    """Build the message, once for each kind: to build it takes longer than to run it."""
    holder = aliased(Job)
    held = exists().where(holds(holder, _WORKER, _SLOT, kind))
    moment = select(now()).scalar_subquery()
    turn = first_in_turn(moment, _MAX_RUNNING, literal(kind, Job.kind.type)).where(~held).scalar_subquery()
    number = func.nextval(Numbers.CLAIMS.value)
    columns = columns_of_claim(number, _WORKER, _TTL_S, _SLOT)
    columns["progress"] = _progress_of_resumption() if kind is WorkKind.TRAIN else null()
    taking = build_move(JobState.QUEUED, JobState.RUNNING, reason=CLAIMED, guards=(is_free(turn),), values=columns)
    told: dict[str, Any] = {
        "type": EventType.STATE,
        "reason": CLAIMED,
        "worker_id": _WORKER,
        "request_id": _REQUEST,
        "data": literal_column("json_build_object()", JSON()),
    }
    statement = with_its_event(taking, **told)
    taken = statement.compile(dialect=_DIALECT(), compile_kwargs={"literal_binds": True})
    return sql.SQL(f"{_WAIT}; {taken}")


def _progress_of_resumption() -> ColumnElement[Any]:
    """Build the expression for a job's progress where its new attempt begins, as `leases` computes it."""
    steps = func.nullif(Job.progress["steps"].as_float(), 0.0, type_=Float(53))
    fraction = func.coalesce(cast(Checkpoint.step, Float(53)) / steps, 0.0)
    place = func.jsonb_build_object("step", Checkpoint.step, "epoch", Checkpoint.epoch, "fraction", fraction)
    furthest = resumable_checkpoints(Job.id).with_only_columns(place).limit(1).correlate(Job).scalar_subquery()
    start = func.coalesce(furthest, func.jsonb_build_object("step", 0, "epoch", 0, "fraction", 0.0))
    unknown = func.jsonb_build_object("images_per_s", null(), "eta_s", null())
    progress = cast(Job.progress, JSONB).concat(start).concat(unknown)
    return case((Job.progress.is_not(None), cast(progress, JSON)))
