"""Removes the files that nothing needs any more: of pruned checkpoints, and keys that are too old."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select, update

from trainyard.checkpoints import CheckpointStatus
from trainyard.database import Database, now
from trainyard.idempotency import forget_expired
from trainyard.storage import Storage
from trainyard.tables import Checkpoint
from trainyard.workers import forget_gone

STATE_FOLDER = "state"  # of a checkpoint: its training state, which goes before the rest


class Garbage:
    """Removes the files of pruned checkpoints some time after their pruning, and keys that are too old."""

    def __init__(self, database: Database, storage: Storage, *, grace_s: float) -> None:
        self._database, self._storage, self._grace_s = database, storage, grace_s

    def tick(self) -> None:
        """Remove what has been given up long enough ago. Files first, then the books: a crash repeats the removal."""
        with self._database.reading() as session:
            folders = select(Checkpoint.id, Checkpoint.key).where(
                Checkpoint.status == CheckpointStatus.PRUNED.value, Checkpoint.pruned_at <= now() - self._grace_s
            )
            states = select(Checkpoint.id, Checkpoint.key).where(
                Checkpoint.has_state, Checkpoint.state_pruned_at <= now() - self._grace_s
            )
            pruned = [(row.id, row.key) for row in session.execute(folders.limit(100))]
            stateless = [(row.id, row.key) for row in session.execute(states.limit(100))]
        for checkpoint_id, key in pruned:
            self._storage.delete(key)
            self._write(checkpoint_id, {"status": CheckpointStatus.DELETED.value, "has_state": False})
        for checkpoint_id, key in stateless:
            self._storage.delete(str(Path(key) / STATE_FOLDER))
            self._write(checkpoint_id, {"has_state": False})
        with self._database.writing() as session:
            forget_expired(session)
            forget_gone(session)

    def _write(self, checkpoint_id: str, values: dict[str, object]) -> None:
        with self._database.writing() as session:
            session.execute(update(Checkpoint).where(Checkpoint.id == checkpoint_id).values(values))
