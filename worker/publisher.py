"""Uploads an attempt's checkpoints to the store, while it trains, before their rows are committed.

A store on a disk has checkpoints at once. An object store takes time, may refuse them, and may be unavailable for a
while. Training and heartbeats go on, and checkpoints wait on the worker's disk, but no more than would be kept if all
were committed: the newest few epochs, the best one, and the newest recovery checkpoint.
"""

from __future__ import annotations

import logging
import shutil
import threading
from pathlib import Path

from alexnet_core.durable import is_disk_full
from alexnet_core.layout import CheckpointKind, checkpoint_key
from alexnet_core.messages import CheckpointSaved
from trainyard.errors import StorageUnavailable
from trainyard.storage.interface import Storage

log = logging.getLogger(__name__)

FIRST_WAIT_S, LONGEST_WAIT_S = 0.5, 15.0
_STOP_S = 30.0


class Publisher:
    """Publishes the checkpoints of one attempt, in the order in which they were made."""

    def __init__(self, storage: Storage, job_id: str, *, keep_latest: int) -> None:
        self._job_id, self._storage, self._keep_latest = job_id, storage, keep_latest
        self._changed = threading.Condition()
        self._waiting: list[CheckpointSaved] = []
        self._published: list[CheckpointSaved] = []
        self._now: CheckpointSaved | None = None
        self._stopped = False
        self._thread: threading.Thread | None = None
        self._best: Path | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a checkpoint is not in the store yet, or has not been fetched with `take`."""
        with self._changed:
            return bool(self._waiting or self._published or self._now)

    def submit(self, report: CheckpointSaved) -> None:
        """Publish the checkpoint that a trainer reported, now or when its turn comes."""
        if self._storage.publishes_at_once:
            self._publish(report)
            self._published.append(report)
            return
        with self._changed:
            self._waiting = self._drop_superseded([*self._waiting, report])
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"publish-{self._job_id}", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def take(self) -> list[CheckpointSaved]:
        """Return the reports whose checkpoints are now in the store, each once."""
        with self._changed:
            taken, self._published = self._published, []
            return taken

    def stop(self) -> None:
        """Publish nothing more. Checkpoints that were not fetched with `take` are not committed, and are removed."""
        with self._changed:
            self._stopped = True
            self._waiting.clear()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join(timeout=_STOP_S)

    def _drop_superseded(self, waiting: list[CheckpointSaved]) -> list[CheckpointSaved]:
        """Drop checkpoints that would be pruned as soon as the others are committed."""
        kept = {id(waiting[-1])} | {id(it) for it in [it for it in waiting if it.is_best][-1:]}
        kept |= {id(it) for it in [it for it in waiting if it.kind == CheckpointKind.EPOCH][-self._keep_latest :]}
        for report in waiting:
            if id(report) not in kept:
                log.info(
                    "a newer checkpoint replaces one that was waiting to be published",
                    extra={"key": _key_of(self._job_id, report)},
                )
                shutil.rmtree(report.path, ignore_errors=True)
        return [report for report in waiting if id(report) in kept]

    def _run(self) -> None:
        while (report := self._take_next()) is not None:
            wait_s = FIRST_WAIT_S
            while not self._try(report):
                with self._changed:
                    if self._stopped or self._changed.wait_for(lambda: self._stopped, timeout=wait_s):
                        return
                wait_s = min(LONGEST_WAIT_S, 2 * wait_s)
            with self._changed:
                self._now = None
                self._published.append(report)
            self._forget_local(report)

    def _take_next(self) -> CheckpointSaved | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or bool(self._waiting))
            if self._stopped:
                return None
            self._now = self._waiting.pop(0)
            return self._now

    def _try(self, report: CheckpointSaved) -> bool:
        try:
            self._publish(report)
        except (StorageUnavailable, OSError) as exc:
            reason = "the disk of the worker is full" if is_disk_full(exc) else str(exc)
            log.warning(
                "a checkpoint is waiting to be published: %s", reason, extra={"key": _key_of(self._job_id, report)}
            )
            return False
        except Exception:  # whatever it is: the report must not be lost with this thread
            log.exception("a checkpoint is waiting to be published", extra={"key": _key_of(self._job_id, report)})
            return False
        return True

    def _publish(self, report: CheckpointSaved) -> None:
        self._storage.publish(report.path, _key_of(self._job_id, report))

    def _forget_local(self, report: CheckpointSaved) -> None:
        """Remove the local files of what is in the store.

        The trainer itself reads only its best one again, at its end.
        """
        path = report.path
        gone, self._best = (self._best, path) if report.is_best else (path, self._best)
        if gone is not None:
            shutil.rmtree(gone, ignore_errors=True)


def _key_of(job_id: str, report: CheckpointSaved) -> str:
    return checkpoint_key(job_id, report.path.name)
