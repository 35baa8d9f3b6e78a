"""The end of an attempt that succeeded is one message to PostgreSQL, as its claim is (`claim_message`).

`leases.end_attempt` locks the job, looks what its owner wants and then decides. Here the statement itself has the
condition that no cancel is wanted, which is all that matters to a success; if it changes nothing, the end is written in
the other way, which also says why.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import bindparam

from trainyard.database.connection import Database
from trainyard.database.tables import Job
from trainyard.jobs.events import change_and_tell
from trainyard.jobs.jobs import build_move
from trainyard.scheduling.leases import FINISHED, GUARDS, Ending, Lease, end_attempt
from trainyard.states import Desired, EventType, JobState

_GIVEN = {name: bindparam(f"new_{name}", type_=Job.__table__.c[name].type) for name in ("test", "weights_sha256")}
_SUCCESS = build_move(
    JobState.RUNNING,
    JobState.SUCCEEDED,
    reason=FINISHED,
    guards=(*GUARDS, Job.desired != Desired.CANCEL),
    values=_GIVEN,
)


def end_at_once(database: Database, lease: Lease, ending: Ending, *, first_backoff_s: float) -> JobState:
    """End an attempt in a transaction of its own, as `leases.end_attempt` does in one of its caller's.

    Returns:
        The job's new state.

    Raises:
        LeaseLost: the lease is over.
        DatabaseUnavailable: see `Database.writing`.
    """
    if ending.succeeded and database.engine.dialect.name == "postgresql":
        given = {"new_test": ending.test, "new_weights_sha256": ending.weights_sha256}
        told: dict[str, Any] = {"reason": FINISHED, "worker_id": lease.worker_id}
        with database.autocommitting() as session:
            ended = change_and_tell(session, _SUCCESS, EventType.STATE, **told, parameters=lease.parameters | given)
        if ended is not None:
            return JobState.SUCCEEDED
    with database.writing() as session:
        return end_attempt(session, lease, ending, first_backoff_s=first_backoff_s)
