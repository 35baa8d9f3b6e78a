"""Removes files that no row refers to: those that killed writers left behind, and those of interrupted removals.

A folder of a checkpoint, or of a prediction's results, has the fencing token of its lease in its name
(`epoch-00000042-e3`, `rows-00010000-e3`). Once that lease has ended nothing can commit the folder any more, so if it is
not in the database by then, it never will be. Dataset packs are written without a lease: a half-written one is left
alone until it has not changed for a long time.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator

from sqlalchemy import Select, select
from sqlalchemy.orm import InstrumentedAttribute

from alexnet_core.layout import (
    CHECKPOINTS,
    GONE_PREFIX,
    PACKS,
    PREDICTIONS,
    CheckpointName,
    checkpoints_key,
    pack_key,
    predictions_key,
)
from trainyard.database.connection import Database
from trainyard.database.ids import has_form
from trainyard.database.prediction_tables import PredictionSegment
from trainyard.database.tables import Checkpoint, Dataset, Job
from trainyard.errors import StorageUnavailable
from trainyard.states import CheckpointStatus, DatasetState, JobState
from trainyard.storage.interface import Storage

log = logging.getLogger(__name__)

_AT_ONCE = 200  # jobs that one look into the database asks for


class Leftovers:
    """Finds and removes leftovers, one look after another.

    What it remembers about half-written packs is known only to this process.
    """

    def __init__(
        self, database: Database, storage: Storage, *, stale_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database, self._storage, self._stale_s, self._clock = database, storage, stale_s, clock
        self._unchanged_since: dict[str, tuple[object, float]] = {}

    def tick(self) -> None:
        """Remove all present leftovers; nothing while the store does not answer or is not the yard's own."""
        self._storage.confirm()
        for place, sweep in ((CHECKPOINTS, sweep_jobs), (PREDICTIONS, sweep_predictions)):
            job_ids = self._storage.list_names(place)
            for start in range(0, len(job_ids), _AT_ONCE):
                sweep(self._database, self._storage, job_ids[start : start + _AT_ONCE])
        self._sweep_packs()

    def _sweep_packs(self) -> None:
        for name in self._storage.list_names(PACKS):
            if name.startswith(GONE_PREFIX):
                _remove(self._storage, f"{PACKS}/{name}")
        seen = {}
        for key, look in [*self._storage.list_unfinished(PACKS), *self._find_unused_packs()]:
            before, since = self._unchanged_since.get(key, (None, 0.0))
            seen[key] = (look, since if look == before else self._clock())
            if self._clock() - seen[key][1] >= self._stale_s:
                _remove(self._storage, key)
        self._unchanged_since = seen

    def _find_unused_packs(self) -> Iterator[tuple[str, object]]:
        """Yield the packs that nobody can use: their dataset was rejected or deleted, and a worker wrote them late."""
        names = [name for name in self._storage.list_names(PACKS) if has_form(name, "ds")]
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            with self._database.reading() as session:
                states = {
                    row.id: row.state
                    for row in session.execute(select(Dataset.id, Dataset.state).where(Dataset.id.in_(some)))
                }
            for name in some:
                if states.get(name) in {None, DatasetState.REJECTED, DatasetState.DELETED}:
                    yield pack_key(name), ("unused", states.get(name))


def sweep_jobs(database: Database, storage: Storage, job_ids: Iterable[str]) -> None:
    """Remove leftovers among some jobs' checkpoints. Jobs that are not in the database are left alone."""
    kept = select(Checkpoint.key).where(Checkpoint.status != CheckpointStatus.DELETED)
    _sweep(database, storage, {job_id: checkpoints_key(job_id) for job_id in job_ids}, Checkpoint.job_id, kept)


def sweep_predictions(database: Database, storage: Storage, prediction_ids: Iterable[str]) -> None:
    """Remove leftovers among the results of some predictions, as `sweep_jobs` does."""
    kept, places = select(PredictionSegment.key), {each: predictions_key(each) for each in prediction_ids}
    _sweep(database, storage, places, PredictionSegment.job_id, kept)


def _sweep(
    database: Database,
    storage: Storage,
    places: dict[str, str],
    owner: InstrumentedAttribute[str],
    kept: Select[str],
) -> None:
    """Remove leftovers among folders whose names tell the lease under which they were written.

    The order of reading makes it safe: first the folders, then the leases, then the database's rows. If a folder's
    lease has ended when we look, the folder was committed before that, or never will be.

    Args:
        database: of the yard.
        storage: where the folders are.
        places: by the id of a row of `jobs`, the key of the folder that its folders stand in.
        owner: the column with that id in the table of what was committed.
        kept: selects the keys of what was committed.
    """
    folders = {job_id: storage.list_names(place) for job_id, place in places.items()}
    if not any(folders.values()):
        return
    with database.reading() as session:
        jobs = select(Job.id, Job.state, Job.lease_epoch).where(Job.id.in_(folders))
        leases = {row.id: (row.lease_epoch, row.state == JobState.RUNNING) for row in session.execute(jobs)}
        known = set(session.scalars(kept.where(owner.in_(folders))))
    for job_id, names in folders.items():
        for name in names:
            key = f"{places[job_id]}/{name}"
            if name.startswith(GONE_PREFIX):
                _remove(storage, key)
            elif key in known:
                _finish_removals(storage, key)
            elif job_id in leases and _is_over(name, *leases[job_id]):
                _remove(storage, key)


def _is_over(name: str, lease_epoch: int, is_running: bool) -> bool:
    """Whether the lease under which a folder was written has ended. False: its name does not tell."""
    written = CheckpointName.parse(name) or CheckpointName.parse_temporary(name)
    if written is None:
        return False
    return written.lease_epoch < lease_epoch or (written.lease_epoch == lease_epoch and not is_running)


def _finish_removals(storage: Storage, key: str) -> None:
    """Remove what is left of a checkpoint's training state, after its removal was interrupted."""
    for name in storage.list_names(key):
        if name.startswith(GONE_PREFIX):
            _remove(storage, f"{key}/{name}")


def _remove(storage: Storage, key: str) -> None:
    try:
        if storage.delete(key):
            log.info("removed leftovers", extra={"key": key})
    except (OSError, StorageUnavailable) as exc:
        log.warning("a leftover can't be removed now", extra={"key": key, "detail": str(exc)})
