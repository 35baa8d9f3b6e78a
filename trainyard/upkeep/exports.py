"""Removes converted checkpoints whose checkpoint is no longer there, such as those of a deleted job.

Each machine with an API has its own; those that are read stay until the next look.
"""

from __future__ import annotations

from pathlib import Path

from sqlalchemy import select

from alexnet_core.layout import EXPORTS
from trainyard.database.connection import Database
from trainyard.database.ids import has_form
from trainyard.database.tables import Checkpoint
from trainyard.states import CheckpointStatus
from trainyard.storage.cache import Cache

_AT_ONCE = 200


class Exports:
    """Looks through the converted checkpoints of this machine."""

    def __init__(self, database: Database, data_dir: Path, *, max_bytes: int) -> None:
        self._database, self._root = database, data_dir.absolute() / EXPORTS
        self._cache = Cache(self._root, max_bytes=max_bytes)

    def tick(self) -> None:
        """Remove what belongs to no usable checkpoint, what is half-written, and what exceeds the limit."""
        try:
            found = {path.name: path.name.partition(".")[0] for path in self._root.iterdir()}
        except FileNotFoundError:
            return
        names = {name: checkpoint_id for name, checkpoint_id in found.items() if has_form(checkpoint_id, "ckpt")}
        usable = self._find_usable(sorted(set(names.values())))
        for name, checkpoint_id in names.items():
            if checkpoint_id not in usable:
                self._cache.forget(name)
        self._cache.sweep()

    def _find_usable(self, ids: list[str]) -> set[str]:
        usable: set[str] = set()
        for start in range(0, len(ids), _AT_ONCE):
            those = Checkpoint.id.in_(ids[start : start + _AT_ONCE])
            committed = select(Checkpoint.id).where(those, Checkpoint.status == CheckpointStatus.COMMITTED)
            with self._database.reading() as session:
                usable.update(session.scalars(committed))
        return usable
