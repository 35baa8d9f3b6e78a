"""Examines a checkpoint that could not be used: it is damaged, missing, or whole after all.

A checkpoint is `corrupt` only if its bytes were read and are not those that were committed. One whose files are not in
the store is `missing`: it is looked for again, and used again once they are there. A store that does not answer, or is
another one, proves nothing about any checkpoint.
"""

from __future__ import annotations

import hashlib
import logging
from enum import StrEnum
from pathlib import Path

from alexnet_core.layout import MANIFEST, STATE, is_of_state
from alexnet_core.regular_files import open_regular
from trainyard.artifacts.checkpoints import set_aside
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint
from trainyard.states import CheckpointStatus
from trainyard.storage.interface import Storage, StoredFilesDamaged

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 20


class Condition(StrEnum):
    """The state of a checkpoint's files in the store."""

    WHOLE = "whole"  #: every file is the one that was committed
    DAMAGED = "damaged"  #: a file was read and differs from the committed one
    MISSING = "missing"  #: one or all of the files don't exist


def examine(storage: Storage, row: Checkpoint) -> Condition:
    """Read every file that a checkpoint should have from the store, and compare it with the database.

    Raises:
        StorageUnavailable, OSError: it can't be told now.
    """
    try:
        with storage.materialise(row.key, without="" if row.has_state else STATE, fresh=True) as folder:
            return Condition.WHOLE if _agrees(folder, row) else Condition.DAMAGED
    except StoredFilesDamaged:
        return Condition.DAMAGED
    except FileNotFoundError:
        storage.confirm()
        return Condition.MISSING


def set_aside_unless_whole(database: Database, storage: Storage, row: Checkpoint, detail: str) -> Condition:
    """Take a checkpoint that could not be used out of use, unless the store has it whole.

    The job's events say why.

    Raises:
        StorageUnavailable, OSError: it can't be told now; the checkpoint stays in use.
        DatabaseUnavailable: nothing could be written.
    """
    condition = examine(storage, row)
    if condition is not Condition.WHOLE:
        log.warning("a checkpoint is %s", condition, extra={"checkpoint": row.id, "detail": detail})
        status = CheckpointStatus.CORRUPT if condition is Condition.DAMAGED else CheckpointStatus.MISSING
        with database.writing() as session:
            set_aside(session, row.id, status, detail)
    return condition


def _agrees(folder: Path, row: Checkpoint) -> bool:
    expected = {name: entry["sha256"] for name, entry in row.files.items()}
    if not row.has_state:
        expected = {name: sha256 for name, sha256 in expected.items() if not is_of_state(name)}
    expected[MANIFEST] = row.manifest_sha256
    return all(_hash(folder, name) == sha256 for name, sha256 in expected.items())


def _hash(folder: Path, name: str) -> str:
    digest = hashlib.sha256()
    with open_regular(folder, name) as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
