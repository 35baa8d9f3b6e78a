"""Checkpoints as clients see them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.orm import Session

from api.schemas.jobs import CheckpointRead
from trainyard.database.tables import Checkpoint, Job


def describe_checkpoints(session: Session, rows: Sequence[Checkpoint]) -> list[CheckpointRead]:
    """Return checkpoints as clients see them."""
    bests = session.scalars(select(Job.best).where(Job.id.in_({row.job_id for row in rows}))).all()
    best_ids = {best.get("checkpoint") for best in bests if best}
    return [CheckpointRead.of(row, is_best=row.id in best_ids) for row in rows]
