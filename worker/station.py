"""The worker process as a whole: its identity, its slots, its heartbeats, and the loop that takes jobs."""

from __future__ import annotations

import logging
import os
import queue
import socket
import threading
import time

from alexnet_core.data.published.builtin import BUILTINS
from trainyard.artifacts.datasets import builtin_id, register_builtins
from trainyard.build import build_id
from trainyard.database.connection import Database
from trainyard.database.ids import new_id
from trainyard.database.tables import Dataset
from trainyard.errors import DatabaseUnavailable, StorageUnavailable
from trainyard.scheduling.workers import WorkerIdentity, mark_seen, mark_stopped
from trainyard.settings import Settings
from trainyard.states import WorkKind
from trainyard.storage.opening import StoreGuard, open_storage
from worker.attempt import Slot
from worker.beside.lane import Lane, Runner
from worker.claims import Claims
from worker.datasets.preparation import PreparationFailed, has_pack, prepare_builtin
from worker.datasets.validation import Validator
from worker.machine.device_meter import DeviceMeter
from worker.machine.devices import list_devices, list_gpus, lock_paths, threads_per_slot
from worker.machine.health import HealthFile
from worker.predictions.bulk_prediction import BulkPredictor
from worker.supervisor import Supervisor
from worker.trainer import WarmTrainers

log = logging.getLogger(__name__)

SIGN_OF_LIFE_S = 3.0
STANDS_STILL_S = 60.0  #: beyond its pause, after which a loop counts as hung; a slow database takes less
LOOK_S = 0.1  # between two looks whether a draining worker has jobs left
FIRST_DATASET = "digits"  # small and always available, so that a newcomer's first job finds it prepared


class Station:
    """One worker process. Celery's threads call `work`; everything else is called by the process's main code."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._database = Database(settings.sqlalchemy_url)
        devices = list_devices(settings)
        self.identity = WorkerIdentity(new_id("wrk"), socket.gethostname(), os.getpid(), devices)
        threads = threads_per_slot(settings, len(devices))
        gpus = list_gpus()
        paths = lock_paths(settings, self.identity.id, devices, gpus)
        self._meter = DeviceMeter(devices, gpus)
        self._slots = [Slot(device, path, threads) for device, path in zip(devices, paths, strict=True)]
        self._free_slots: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in range(len(devices)):
            self._free_slots.put(index)
        self._own_threads: list[threading.Thread] = []
        self._trainers = WarmTrainers(threads, keeps_spare=settings.spare_trainer)
        self._draining = threading.Event()
        self._ended = threading.Event()
        self._health = HealthFile(settings.data_dir)
        self._looked_at = time.monotonic()
        self._closing = threading.Lock()
        self._storage = open_storage(settings)
        self._store = StoreGuard(self._database, self._storage)
        self._claims = Claims(settings, self._database, self._store, self.identity.id)
        around = (settings, self._database, self._storage)
        self._lanes = [
            self._open_lane("validations", WorkKind.VALIDATE, Validator(*around, is_draining=self._draining.is_set)),
            self._open_lane("predictions", WorkKind.PREDICT, BulkPredictor(*around, is_draining=self._draining.is_set)),
        ]
        self._supervisor = Supervisor(
            settings, self._database, self._storage, self._trainers, is_draining=self._draining.is_set
        )

    def _open_lane(self, name: str, kind: WorkKind, runner: Runner) -> Lane:
        claims = Claims(self._settings, self._database, self._store, self.identity.id, kind=kind)
        return Lane(name, runner, claims, tick_s=self._settings.tick_s, is_draining=self._draining.is_set)

    def open(self) -> None:
        """Register in the database, now or when it answers; send heartbeats from now on, and keep a trainer warm.

        Nothing may be raised here: Celery would log it and go on with a worker that is not registered and never trains.
        """
        self._looked_at = time.monotonic()
        self._sign_life()
        self._meter.start()
        for name, body in (("heartbeats", self._show_life), ("idle-poll", self._look_for_work)):
            threading.Thread(target=body, name=name, daemon=True).start()
        for lane in self._lanes:
            lane.start()
        self._trainers.start()
        self._trainers.want_spare()
        threading.Thread(target=self._prepare_first_dataset, name="first-dataset", daemon=True).start()
        facts = {"worker": self.identity.id, "version": build_id(), "devices": list(self.identity.devices)}
        log.info("worker is ready", extra=facts)

    def drain(self) -> None:
        """Take no further job. Running jobs write a checkpoint and go back into the queue."""
        log.info("worker drains", extra={"worker": self.identity.id})
        self._draining.set()

    def wait_until_idle(self) -> None:
        """Return when the worker drains, no slot has a job and nothing is done beside them."""
        self._draining.wait()
        while self._free_slots.qsize() < len(self._slots) or any(lane.is_alive() for lane in self._lanes):
            time.sleep(LOOK_S)

    def close(self) -> None:
        """Mark the worker as stopped when every job has been given back. A second call only waits for that."""
        with self._closing:
            if not self._ended.is_set():
                self._close()

    def _close(self) -> None:
        self._draining.set()
        self._ended.set()
        self._health.remove()
        self._meter.stop()
        for thread in self._own_threads:  # Celery waits for its own, but knows nothing of these
            thread.join()
        for lane in self._lanes:
            if lane.is_alive():
                lane.join()
        self._trainers.close()
        self._storage.close()
        try:
            with self._database.writing() as session:
                mark_stopped(session, self.identity.id)
        except DatabaseUnavailable:
            log.warning("the database does not answer; this worker will count as lost")

    def work(self) -> None:
        """Claim one job after another until none is waiting; let those look, too, that work beside the slots.

        Called for each wake-up message; returns at once if no slot is free.
        """
        for lane in self._lanes:
            lane.look()
        try:
            index = self._free_slots.get_nowait()
        except queue.Empty:
            return
        try:
            while not self._draining.is_set() and self._run_next(index):
                pass
        except DatabaseUnavailable:
            log.warning("the database does not answer; this worker will try again")
        finally:
            self._free_slots.put(index)

    def _look_for_work(self) -> None:
        """Look for jobs in the database while a slot is free, as a message may be lost or a consumer hang."""
        while not self._draining.wait(self._settings.idle_poll_s):
            self._looked_at = time.monotonic()
            self._own_threads = [thread for thread in self._own_threads if thread.is_alive()]
            try:
                if not self._free_slots.empty() and self._claims.is_anything_waiting():
                    log.info("found a waiting job without a wake-up message", extra={"worker": self.identity.id})
                    thread = threading.Thread(target=self.work, name="work-unasked")
                    self._own_threads.append(thread)
                    thread.start()
            except DatabaseUnavailable:
                log.warning("the database does not answer; no job was looked for")
            except Exception:
                log.exception("no job was looked for")

    def _run_next(self, index: int) -> bool:
        claimed = self._claims.take(slot=index)
        if claimed is None:
            return False
        job, lease = claimed
        self._supervisor.run(job, lease, self._slots[index])
        return True

    def _prepare_first_dataset(self) -> None:
        """Make the small dataset's pack now. If that fails, the job that needs it tries again and reports why."""
        try:
            self._store.check()
            register_builtins(self._database, {FIRST_DATASET: BUILTINS[FIRST_DATASET].facts})
            with self._database.reading() as session:
                dataset = session.get(Dataset, builtin_id(FIRST_DATASET))
            if dataset is not None and not has_pack(self._storage, dataset):
                prepare_builtin(self._settings, self._database, self._storage, dataset)
        except (OSError, DatabaseUnavailable, StorageUnavailable, PreparationFailed) as exc:
            log.warning("%s could not be prepared in advance: %s", FIRST_DATASET, exc)

    def _show_life(self) -> None:
        while not self._ended.wait(SIGN_OF_LIFE_S):
            self._sign_life()

    def _sign_life(self) -> None:
        try:
            with self._database.writing() as session:
                draining, readings = self._draining.is_set(), self._meter.readings()
                mark_seen(session, self.identity, draining=draining, readings=readings)
        except DatabaseUnavailable:
            log.warning("the database does not answer; no heartbeat was written")
        except Exception:
            log.exception("no heartbeat was written")
        else:
            self._tell_health()

    def _tell_health(self) -> None:
        """Let health checks know of a heartbeat, unless this worker no longer looks for jobs although it should."""
        stood_still_s = time.monotonic() - self._looked_at - self._settings.idle_poll_s
        if stood_still_s > STANDS_STILL_S and not self._draining.is_set():
            return
        try:
            self._health.write()
        except OSError as exc:
            log.warning("health checks fail, as their file can't be written: %s", exc)
