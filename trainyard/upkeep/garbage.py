"""Removes what is no longer needed: files of checkpoints that were given up, old predictions and idempotency keys."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable

from sqlalchemy import Select, select, update

from alexnet_core.layout import STATE
from trainyard.artifacts.checkpoints import is_in_use, is_resumed_from
from trainyard.artifacts.deletion import finish_removals, remove_files
from trainyard.artifacts.examination import Condition, examine
from trainyard.artifacts.predictions import expire
from trainyard.database.connection import Database, now, update_rows
from trainyard.database.tables import Checkpoint, Job
from trainyard.errors import StorageUnavailable
from trainyard.jobs.events import append_event
from trainyard.jobs.idempotency import forget_expired
from trainyard.jobs.yard_log import tell, trim
from trainyard.scheduling.workers import forget_gone
from trainyard.states import CheckpointStatus, EventType, YardEventKind
from trainyard.storage.interface import Storage

log = logging.getLogger(__name__)

_AT_ONCE = 100


class Garbage:
    """Removes the files of checkpoints some time after they were given up, old predictions and idempotency keys."""

    def __init__(
        self, database: Database, storage: Storage, *, grace_s: float, keep_predictions_s: float = math.inf
    ) -> None:
        self._database, self._storage, self._grace_s = database, storage, grace_s
        self._keep_predictions_s = keep_predictions_s

    def tick(self) -> None:
        """Remove what was given up long enough ago. Files go before rows, so that a crash repeats the removal.

        Whatever is being read at this moment stays until the next time. While the store does not answer, or is not the
        yard's own, no file is touched: everything is checked again when it is back.
        """
        self._take_back()
        with self._database.writing() as session:
            forget_expired(session)
            forget_gone(session)
            trim(session)
            expired = [] if self._keep_predictions_s == math.inf else expire(session, keep_s=self._keep_predictions_s)
        try:
            self._storage.confirm()
        except StorageUnavailable as exc:
            log.warning("the store can't be used, so no file is removed", extra={"detail": str(exc)})
            return
        remove_files(self._storage, expired)  # what can't be removed now has its record
        old = Checkpoint.pruned_at <= now() - self._grace_s
        gone = {"status": CheckpointStatus.DELETED, "has_state": False}
        self._remove(self._with_status(CheckpointStatus.PRUNED).where(old), gone)
        corrupt = self._with_status(CheckpointStatus.CORRUPT).where(old)
        self._remove(corrupt, {"pruned_at": None, "has_state": False}, unless=self._is_whole_again)
        self._look_for(self._with_status(CheckpointStatus.MISSING).where(old))
        states = select(Checkpoint).where(Checkpoint.has_state, Checkpoint.state_pruned_at <= now() - self._grace_s)
        self._remove(states, {"has_state": False}, part=STATE)
        finish_removals(self._database, self._storage, grace_s=self._grace_s)

    @staticmethod
    def _with_status(status: CheckpointStatus) -> Select[Checkpoint]:
        return select(Checkpoint).where(Checkpoint.status == status)

    def _take_back(self) -> None:
        """Undo the pruning of a checkpoint in use: a safety net for writes without the locks of `retries`."""
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
                is_gone = not unless(row) and self._storage.delete(row.key, part)
            except (OSError, StorageUnavailable) as exc:  # one that can't be removed must not keep the others
                log.warning("a checkpoint can't be removed now", extra={"checkpoint": row.id, "detail": str(exc)})
                continue
            if is_gone:
                with self._database.writing() as session:
                    session.execute(update(Checkpoint).where(Checkpoint.id == row.id).values(values))

    def _look_for(self, missing: Select[Checkpoint]) -> None:
        """Use checkpoints again if their files are back.

        The others wait for another grace period, so that the next ones get their turn.
        """
        with self._database.reading() as session:
            rows = session.scalars(missing.order_by(Checkpoint.pruned_at).limit(_AT_ONCE)).all()
        for row in rows:
            if not self._is_whole_again(row):
                self._give_grace(row)

    def _is_whole_again(self, row: Checkpoint) -> bool:
        """Whether to keep a checkpoint that was set aside: it is whole now, or can't be examined at present.

        A checkpoint whose files are whole is used again.
        """
        try:
            condition = examine(self._storage, row)
        except (OSError, StorageUnavailable):
            self._give_grace(row)
            return True
        if condition is Condition.WHOLE:
            self._use_again(row)
        return condition is Condition.WHOLE

    def _use_again(self, row: Checkpoint) -> None:
        with self._database.writing() as session:
            session.execute(select(Job.id).where(Job.id == row.job_id).with_for_update())  # see `set_aside`
            aside = (Checkpoint.id == row.id, Checkpoint.status == row.status)
            statement = update(Checkpoint).where(*aside).execution_options(synchronize_session=False)
            if update_rows(session, statement.values(status=CheckpointStatus.COMMITTED, pruned_at=None)) == 1:
                data = {"checkpoint": row.id}  # another reconciler may have been faster
                append_event(session, row.job_id, EventType.WARNING, reason="checkpoint_whole", data=data)
                tell(session, row.owner, YardEventKind.CHECKPOINT, row.id)

    def _give_grace(self, row: Checkpoint) -> None:
        """Wait for another grace period before this checkpoint is examined again."""
        with self._database.writing() as session:
            aside = (Checkpoint.id == row.id, Checkpoint.status == row.status)
            statement = update(Checkpoint).where(*aside, Checkpoint.pruned_at.is_not(None)).values(pruned_at=now())
            session.execute(statement.execution_options(synchronize_session=False))
