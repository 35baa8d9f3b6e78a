"""The calibrations of checkpoints in the database: how far their probabilities can be trusted.

A calibration is `alexnet_core.reliability.Calibration` as JSON. The trainer makes that of a job's best checkpoint at
its end; the API makes any other when it is asked for. It is written once: a checkpoint does not change.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.orm import Session

from trainyard.database.tables import Checkpoint
from trainyard.json_values import finite


def keep_of_weights(session: Session, job_id: str, weights_sha256: str, calibration: dict[str, Any]) -> None:
    """Write the calibration of a job's checkpoints with these weights."""
    _keep(session, calibration, Checkpoint.job_id == job_id, Checkpoint.weights_sha256 == weights_sha256)


def keep_of_checkpoint(session: Session, checkpoint_id: str, calibration: dict[str, Any]) -> None:
    """Write the calibration of a checkpoint, if it has none yet."""
    _keep(session, calibration, Checkpoint.id == checkpoint_id)


def read_calibration(session: Session, checkpoint_id: str) -> dict[str, Any] | None:
    """Return a checkpoint's calibration. None: it has none yet, or there is no such checkpoint."""
    return session.scalar(select(Checkpoint.calibration).where(Checkpoint.id == checkpoint_id))


def _keep(session: Session, calibration: dict[str, Any], *which: ColumnElement[bool]) -> None:
    statement = update(Checkpoint).where(*which, Checkpoint.calibration.is_(None))
    session.execute(statement.values(calibration=finite(calibration)).execution_options(synchronize_session=False))
