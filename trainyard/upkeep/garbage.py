"""Removes the files that nothing needs any more: of checkpoints that were given up, and keys that are too old."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Select, select, update

from alexnet_core.layout import STATE, is_of_state
from trainyard.artifacts.checkpoints import has_its_manifest, is_in_use, is_resumed_from
from trainyard.artifacts.deletion import finish_removals
from trainyard.artifacts.storage import Storage
from trainyard.database.connection import Database, now, update_rows
from trainyard.database.tables import Checkpoint, Job
from trainyard.jobs.events import append_event
from trainyard.jobs.idempotency import forget_expired
from trainyard.scheduling.workers import forget_gone
from trainyard.states import CheckpointStatus, EventType

log = logging.getLogger(__name__)

_PIECE_BYTES = 1 << 20
_AT_ONCE = 100


class Garbage:
    """Removes the files of checkpoints some time after they were given up, and keys that are too old."""

    def __init__(self, database: Database, storage: Storage, *, grace_s: float) -> None:
        self._database, self._storage, self._grace_s = database, storage, grace_s

    def tick(self) -> None:
        """Remove what was given up long enough ago. Files first, then the database: a crash repeats the removal.

        Whatever somebody reads at this moment stays until the next time. On a disk that is away nothing can be removed:
        what was damaged, and training state, is looked at again; what was pruned is a leftover when it comes back.
        """
        self._take_back()
        old = Checkpoint.pruned_at <= now() - self._grace_s
        gone = {"status": CheckpointStatus.DELETED, "has_state": False}
        self._remove(self._with_status(CheckpointStatus.PRUNED).where(old), gone)
        corrupt = self._with_status(CheckpointStatus.CORRUPT).where(old)
        self._remove(corrupt, {"pruned_at": None, "has_state": False}, unless=self._is_kept)
        states = select(Checkpoint).where(Checkpoint.has_state, Checkpoint.state_pruned_at <= now() - self._grace_s)
        self._remove(states, {"has_state": False}, part=STATE, unless=self._is_away)
        with self._database.writing() as session:
            forget_expired(session)
            forget_gone(session)
        finish_removals(self._database, self._storage, grace_s=self._grace_s)

    @staticmethod
    def _with_status(status: CheckpointStatus) -> Select[Checkpoint]:
        return select(Checkpoint).where(Checkpoint.status == status)

    def _take_back(self) -> None:
        """Take back the pruning of a checkpoint in use: a safety net for writes without the locks of `retries`."""
        with self._database.writing() as session:
            pruned = Checkpoint.status == CheckpointStatus.PRUNED
            statement = update(Checkpoint).where(pruned, is_in_use())
            values = {"status": CheckpointStatus.COMMITTED, "pruned_at": None}
            session.execute(statement.values(values).execution_options(synchronize_session=False))
            has_state = (Checkpoint.has_state, Checkpoint.state_pruned_at.is_not(None))
            state = update(Checkpoint).where(*has_state, is_resumed_from()).values(state_pruned_at=None)
            session.execute(state.execution_options(synchronize_session=False))

    def _remove(
        self,
        query: Select[Checkpoint],
        values: dict[str, object],
        *,
        part: str = "",
        unless: Callable[[Checkpoint], bool] = lambda _: False,
    ) -> None:
        with self._database.reading() as session:
            rows = session.scalars(query.order_by(Checkpoint.id).limit(_AT_ONCE)).all()
        for row in rows:
            try:
                is_gone = not unless(row) and self._storage.delete(f"{row.key}/{part}".rstrip("/"))
            except OSError as exc:  # one that can't be removed must not keep the others
                log.warning("a checkpoint can't be removed now", extra={"checkpoint": row.id, "detail": str(exc)})
                continue
            if is_gone:
                with self._database.writing() as session:
                    session.execute(update(Checkpoint).where(Checkpoint.id == row.id).values(values))

    def _is_kept(self, row: Checkpoint) -> bool:
        """Whether a checkpoint that was found damaged is not given up: it is whole again, or its disk is away."""
        if not self._is_away(row):
            return self._is_whole(row)
        with self._database.writing() as session:  # a new grace, so that many that are away leave others their turn
            corrupt = (Checkpoint.id == row.id, Checkpoint.status == CheckpointStatus.CORRUPT)
            statement = update(Checkpoint).where(*corrupt, Checkpoint.pruned_at.is_not(None)).values(pruned_at=now())
            session.execute(statement.execution_options(synchronize_session=False))
        return True

    def _is_away(self, row: Checkpoint) -> bool:
        """Tell whether the disk is away: then not even the job's folder is there, which exists as long as the job."""
        return not self._storage.folder(row.key).parent.is_dir()

    def _is_whole(self, row: Checkpoint) -> bool:
        """Whether a checkpoint that was found damaged is whole now, as after a disk that was away: it is used again."""
        try:
            with self._storage.reading(row.key) as folder:
                if not has_its_manifest(folder, row.manifest_sha256) or not _agree(folder, row):
                    return False
        except OSError:
            return False
        with self._database.writing() as session:
            session.execute(select(Job.id).where(Job.id == row.job_id).with_for_update())  # see `mark_corrupt`
            corrupt = (Checkpoint.id == row.id, Checkpoint.status == CheckpointStatus.CORRUPT)
            statement = update(Checkpoint).where(*corrupt).execution_options(synchronize_session=False)
            if update_rows(session, statement.values(status=CheckpointStatus.COMMITTED, pruned_at=None)) == 1:
                data = {"checkpoint": row.id}  # another reconciler may have been faster
                append_event(session, row.job_id, EventType.WARNING, reason="checkpoint_whole", data=data)
        return True


def _agree(folder: Path, row: Checkpoint) -> bool:
    """Whether every file that should be there is the one that was committed."""
    names = [name for name in row.files if row.has_state or not is_of_state(name)]
    return bool(names) and all(_hash(folder / name) == row.files[name]["sha256"] for name in names)


def _hash(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()
