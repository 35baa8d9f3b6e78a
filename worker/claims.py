"""A worker's claims of one kind of work: whether any waits, whether this worker can take it, and the claim itself."""

from __future__ import annotations

import logging

from trainyard import failpoints
from trainyard.database.connection import Database, read_clock
from trainyard.database.schema import Standing, current_revision, describe, standing_of
from trainyard.database.tables import Job
from trainyard.errors import StorageUnavailable
from trainyard.scheduling.claim_message import claim_at_once
from trainyard.scheduling.claim_order import in_turn
from trainyard.scheduling.held_jobs import find_held
from trainyard.scheduling.leases import Lease
from trainyard.settings import Settings
from trainyard.states import WorkKind
from trainyard.storage.opening import StoreGuard

log = logging.getLogger(__name__)

_REFUSALS = {
    WorkKind.TRAIN: "takes no job",
    WorkKind.VALIDATE: "validates no dataset",
    WorkKind.PREDICT: "predicts nothing",
}


class Claims:
    """Takes work of one kind from the queue."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        store: StoreGuard,
        worker_id: str,
        *,
        kind: WorkKind = WorkKind.TRAIN,
    ) -> None:
        self._settings, self._database, self._store = settings, database, store
        self._worker_id, self._kind = worker_id, kind
        self._max_running = settings.max_running_per_owner if kind is WorkKind.TRAIN else None
        self._refusal = _REFUSALS[kind]
        self._told_of_revision: tuple[str | None] | None = None  #: the one that does not fit, once it was logged
        self._unsure_slots: set[int] = set()  #: it is unknown whether their last claim was written
        self._store_trouble = ""

    def take(self, *, slot: int) -> tuple[Job, Lease] | None:
        """Claim what is next in turn for a slot. None: nothing waits, or this worker can take nothing now.

        Raises:
            DatabaseUnavailable: nobody knows whether something was claimed; the next call finds out.
        """
        if not self.is_anything_waiting() or not self._fits_tables() or not self._has_its_store():
            return None
        claimed = self._claim(slot)
        if claimed is not None:
            failpoints.hit("after_claim")
        return claimed

    def is_anything_waiting(self) -> bool:
        """Whether a job can be claimed, or a claim may have succeeded without this worker being told."""
        if self._unsure_slots:
            return True
        with self._database.reading() as session:
            turns = in_turn(session, read_clock(session), self._max_running, kind=self._kind)
            return next(turns, None) is not None

    def _fits_tables(self) -> bool:
        """Whether this worker can take jobs from these tables. If not, the log says why, once."""
        revision = current_revision(self._database)
        if standing_of(revision) is Standing.OK:
            self._told_of_revision = None
            return True
        if self._told_of_revision != (revision,):
            self._told_of_revision = (revision,)
            log.error("this worker %s: %s", self._refusal, describe(revision), extra={"worker": self._worker_id})
        return False

    def _has_its_store(self) -> bool:
        """Whether the store answers and is the yard's own. If not, the log says what is wrong, once."""
        try:
            self._store.check()
        except StorageUnavailable as exc:
            if str(exc) != self._store_trouble:
                log.error("this worker %s: %s", self._refusal, exc, extra={"worker": self._worker_id})
            self._store_trouble = str(exc)
            return False
        if self._store_trouble:
            log.info("the store can be used again", extra={"worker": self._worker_id})
        self._store_trouble = ""
        return True

    def _claim(self, index: int) -> tuple[Job, Lease] | None:
        """Claim the next job, or find the one whose claim was committed while the answer was lost."""
        claimed = None
        if index in self._unsure_slots:
            with self._database.reading() as session:
                claimed = find_held(session, self._worker_id, slot=index, kind=self._kind)
        if claimed is None:
            self._unsure_slots.add(index)
            claimed = claim_at_once(
                *(self._database, self._worker_id, self._settings.lease_ttl_s),
                slot=index,
                max_running_per_owner=self._max_running,
                kind=self._kind,
            )
        self._unsure_slots.discard(index)
        return claimed
