"""Returns calibrations of checkpoints: from the database, or computed at first use and written there."""

from __future__ import annotations

import logging
from pathlib import Path

import anyio.to_thread

from alexnet_core.insight.calibration import CALIBRATION
from alexnet_core.insight.methods import PassKind
from alexnet_core.reliability import Calibration
from api.insight.insight import Insight
from api.insight.training_data import find_training_data
from trainyard.artifacts.calibrations import keep_of_checkpoint, read_calibration
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint
from trainyard.errors import DatabaseUnavailable
from trainyard.insight_errors import InsightInProgress

log = logging.getLogger(__name__)


async def get_calibration(database: Database, insight: Insight, checkpoint: Checkpoint) -> Calibration:
    """Return a checkpoint's calibration.

    Raises:
        InsightInProgress: it is being computed, which takes longer than a request may wait.
        CalibrationNotFound: there are no images to compute it from.
        ServiceError: what is wrong with the checkpoint or its dataset.
    """
    if (known := await anyio.to_thread.run_sync(_read, database, checkpoint)) is not None:
        return known
    pack, split = await anyio.to_thread.run_sync(find_training_data, database, checkpoint)
    folder = await insight.need(checkpoint, pack, PassKind.CALIBRATION, split)
    found = await anyio.to_thread.run_sync(_load, folder)
    if found is None:
        await anyio.to_thread.run_sync(insight.forget, checkpoint, PassKind.CALIBRATION, split)
        raise InsightInProgress("the calibration was just removed: ask again", retry_after_s=1)
    await anyio.to_thread.run_sync(_keep, database, checkpoint, found)
    return found


def _read(database: Database, checkpoint: Checkpoint) -> Calibration | None:
    with database.reading() as session:
        found = read_calibration(session, checkpoint.id)
    return None if found is None else Calibration.model_validate(found)


def _load(folder: Path) -> Calibration | None:
    """Return what was computed. None: it was removed, or is damaged."""
    try:
        return Calibration.model_validate_json((folder / CALIBRATION).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _keep(database: Database, checkpoint: Checkpoint, found: Calibration) -> None:
    try:
        with database.writing() as session:
            keep_of_checkpoint(session, checkpoint.id, found.model_dump())
    except DatabaseUnavailable:  # the next request writes it
        log.warning("a calibration could not be written", extra={"checkpoint": checkpoint.id})
