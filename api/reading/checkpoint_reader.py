"""Checkpoints, found by what names them, and as clients see them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.schemas.jobs import CheckpointRead
from trainyard.artifacts import checkpoints
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, Job


def describe_checkpoints(session: Session, rows: Sequence[Checkpoint]) -> list[CheckpointRead]:
    """Return checkpoints as clients see them."""
    bests = session.scalars(select(Job.best).where(Job.id.in_({row.job_id for row in rows}))).all()
    best_ids = {best.get("checkpoint") for best in bests if best}
    return [CheckpointRead.of(row, is_best=row.id in best_ids) for row in rows]


def find_model(database: Database, caller: str, reference: str) -> Checkpoint:
    """Return the checkpoint that a reference such as `latest` or `job_…` names.

    Raises:
        ServiceError: what `checkpoints.resolve_model` raises.
    """
    with database.reading() as session:
        return checkpoints.resolve_model(session, caller, reference)


def find_checkpoint(database: Database, caller: str, checkpoint_id: str) -> Checkpoint:
    """Return a checkpoint by its id.

    Raises:
        CheckpointNotFound, CheckpointPruned: see `checkpoints.get_checkpoint`.
    """
    with database.reading() as session:
        return checkpoints.get_checkpoint(session, caller, checkpoint_id)
