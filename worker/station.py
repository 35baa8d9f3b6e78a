"""The worker process as a whole: its identity, its slots, its signs of life, and the loop that takes jobs."""

from __future__ import annotations

import logging
import os
import queue
import socket
import tempfile
import threading
from pathlib import Path

from alexnet_core.builtin import BUILTINS
from trainyard.database import Database
from trainyard.datasets import builtin_id, register_builtins
from trainyard.errors import DatabaseUnavailable
from trainyard.ids import new_id
from trainyard.leases import claim
from trainyard.schema import current_revision, newest_revision
from trainyard.settings import Settings
from trainyard.storage import LocalStorage
from trainyard.tables import Dataset
from trainyard.workers import WorkerIdentity, mark_seen, mark_stopped, register
from worker.devices import list_devices, threads_per_slot
from worker.preparation import PreparationFailed, has_pack, prepare_builtin
from worker.supervisor import Slot, Supervisor
from worker.trainer import WarmTrainers

log = logging.getLogger(__name__)

SIGN_OF_LIFE_S = 3.0
FIRST_DATASET = "digits"  # small and always at hand: a newcomer's first job finds it prepared


class Station:
    """One worker process. `work` is called by Celery's threads; everything else by the process's own life."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.sqlalchemy_url)
        devices = list_devices(settings)
        self.identity = WorkerIdentity(new_id("wrk"), socket.gethostname(), os.getpid(), devices)
        threads = threads_per_slot(settings, len(devices))
        self._free_slots: queue.SimpleQueue[Slot] = queue.SimpleQueue()
        for index, device in enumerate(devices):
            self._free_slots.put(Slot(device, _lock_path(self.identity.id, index, device), threads))
        self._trainers = WarmTrainers(threads)
        self._draining = threading.Event()
        self._ended = threading.Event()
        self._storage = LocalStorage(settings.data_dir)
        self._supervisor = Supervisor(
            settings, self._database, self._storage, self._trainers, is_draining=self._draining.is_set
        )

    def open(self) -> None:
        """Enter the books, show signs of life from now on, and keep a trainer warm."""
        with self._database.writing() as session:
            register(session, self.identity)
        threading.Thread(target=self._show_life, name="signs-of-life", daemon=True).start()
        self._trainers.start()
        self._trainers.want_spare()
        threading.Thread(target=self._prepare_first_dataset, name="first-dataset", daemon=True).start()
        log.info("worker is ready", extra={"worker": self.identity.id, "devices": list(self.identity.devices)})

    def drain(self) -> None:
        """Take no further job; running ones write a checkpoint and go back into the queue."""
        log.info("worker drains", extra={"worker": self.identity.id})
        self._draining.set()

    def close(self) -> None:
        """Leave the books in order."""
        self._draining.set()
        self._ended.set()
        self._trainers.close()
        try:
            with self._database.writing() as session:
                mark_stopped(session, self.identity.id)
        except DatabaseUnavailable:
            log.warning("the database does not answer; this worker will count as lost")

    def work(self) -> None:
        """Take job after job until none is waiting; one call a bell. Returns at once when every slot is busy."""
        try:
            slot = self._free_slots.get_nowait()
        except queue.Empty:
            return
        try:
            while not self._draining.is_set() and self._run_next(slot):
                pass
        except DatabaseUnavailable:
            log.warning("the database does not answer; the queue will be rung again")
        finally:
            self._free_slots.put(slot)

    def _run_next(self, slot: Slot) -> bool:
        if current_revision(self._database) != newest_revision():
            log.error("the database's tables are of another version than this worker: it takes no job")
            return False
        with self._database.writing() as session:
            claimed = claim(session, self.identity.id, self._settings.lease_ttl_s)
        if claimed is None:
            return False
        job, lease = claimed
        self._supervisor.run(job, lease, slot)
        return True

    def _prepare_first_dataset(self) -> None:
        """Make the small dataset's pack now; if that fails, the job that needs it tries again and says why."""
        try:
            register_builtins(self._database, {FIRST_DATASET: BUILTINS[FIRST_DATASET].facts})
            with self._database.reading() as session:
                dataset = session.get(Dataset, builtin_id(FIRST_DATASET))
            if dataset is not None and not has_pack(self._storage, dataset):
                prepare_builtin(self._settings, self._database, self._storage, dataset)
        except (OSError, DatabaseUnavailable, PreparationFailed) as exc:
            log.warning("%s could not be prepared in advance: %s", FIRST_DATASET, exc)

    def _show_life(self) -> None:
        while not self._ended.wait(SIGN_OF_LIFE_S):
            try:
                with self._database.writing() as session:
                    mark_seen(session, self.identity, draining=self._draining.is_set())
            except DatabaseUnavailable:
                log.warning("the database does not answer; no sign of life was written")
            except Exception:
                log.exception("no sign of life was written")


def _lock_path(worker_id: str, index: int, device: str) -> Path:
    """The file that a trainer locks while it uses a slot: one a GPU of the machine, one a CPU slot of a worker."""
    name = device.replace(":", "-") if device != "cpu" else f"{worker_id}-{index}"
    folder = Path(tempfile.gettempdir()) / f"trainyard-locks-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{name}.lock"
