"""Prepares an attempt: the dataset's pack, the checkpoints to use, and the trainer's specification."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from alexnet_core.config import TrainConfig
from alexnet_core.evaluation.job_evaluation import MAX_BYTES, was_cut_off
from alexnet_core.layout import MANIFEST, STATE, checkpoints_key, evaluation_key, log_key, tensorboard_key
from alexnet_core.messages import Spec, StopReason, StopRequested
from trainyard import failpoints
from trainyard.artifacts.checkpoints import find_resumable, find_usable, has_its_manifest
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, Job
from trainyard.errors import DatabaseUnavailable, StorageUnavailable
from trainyard.jobs.job_log import read_tail
from trainyard.scheduling.leases import heartbeat, report_event, write_fenced
from trainyard.settings import Settings
from trainyard.states import Desired, EventType
from trainyard.storage.interface import Storage, StoredFilesDamaged
from trainyard.upkeep.leftovers import sweep_jobs
from worker.attempt import Attempt
from worker.datasets.preparation import PreparationFailed, has_pack, prepare_builtin
from worker.waiting import enter_beside

log = logging.getLogger(__name__)


class TrainerSpecs:
    """Builds the specs of a worker's attempts."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        *,
        is_draining: Callable[[], bool],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings, self._database, self._storage = settings, database, storage
        self._is_draining, self._sleep = is_draining, sleep

    def wait_for_spec(self, attempt: Attempt) -> Spec:
        """Build the trainer's specification, however long the database takes. A slow database is not the job's fault.

        Raises:
            StopRequested: the attempt must not begin.
            PreparationFailed: it can't; the code says why.
            LeaseLost: the lease is over.
            OSError, ServiceError: something else is wrong.
        """
        while True:
            try:
                spec = self._build_spec(attempt)
                self.beat(attempt)
                return spec
            except DatabaseUnavailable:
                log.warning("the database does not answer; the attempt waits", extra={"job_id": attempt.job.id})
            except StorageUnavailable as exc:
                log.warning("the store can't be used; the attempt waits: %s", exc, extra={"job_id": attempt.job.id})
                self.beat(attempt)
            attempt.held.close()
            if self._is_draining():
                raise StopRequested(StopReason.DRAIN)
            self._sleep(self._settings.tick_s)

    def _build_spec(self, attempt: Attempt) -> Spec:
        job, slot = attempt.job, attempt.slot
        pack = self._ready_pack(attempt)
        best, resume_from, init_from = self._choose_checkpoints(job)
        attempt.starts_from = resume_from or init_from
        start = self._hold_start(attempt)
        root = self._storage.place(checkpoints_key(job.id), attempt.writer)
        root.mkdir(parents=True, exist_ok=True)
        sweep_jobs(self._database, self._storage, [job.id])
        log_path = self._follow(attempt, log_key(job.id))
        tensorboard = self._follow(attempt, tensorboard_key(job.id))
        evaluated = read_tail(self._storage, evaluation_key(job.id), lines=1, max_bytes=MAX_BYTES)
        return Spec(
            job_id=job.id,
            lease_epoch=attempt.lease.lease_epoch,
            seed=job.seed,
            config=_read_config(job),
            pack_dir=pack,
            pack_digest=job.dataset_digest,
            checkpoint_root=root,
            resume_from=None if resume_from is None else start,
            best_checkpoint=self._hold_best(attempt, best),
            init_from=None if init_from is None else start,
            max_runtime_s=job.max_runtime_s,
            max_silence_s=self._settings.lease_ttl_s,
            device=slot.device,
            num_threads=slot.threads,
            recovery_every_s=self._settings.recovery_every_s,
            log_path=log_path,
            lock_path=slot.lock_path,
            tensorboard_dir=tensorboard,
            evaluation_path=self._follow(attempt, evaluation_key(job.id)),
            evaluation_was_cut_off=was_cut_off(evaluated),
            failpoints=failpoints.for_child(),
        )

    def _choose_checkpoints(self, job: Job) -> tuple[Checkpoint | None, Checkpoint | None, Checkpoint | None]:
        """Choose the best one, the one to resume from, and the one whose weights to begin with."""
        with self._database.reading() as session:
            best = find_usable(session, (job.best or {}).get("checkpoint"))
            resume_from = find_resumable(session, job.id)
            if resume_from is None and job.resume_from is not None:
                resume_from = _needed(find_usable(session, job.resume_from, with_state=True), job.resume_from)
            init_from = None
            if resume_from is None and job.init_from is not None:
                init_from = _needed(find_usable(session, job.init_from), job.init_from)
        return best, resume_from, init_from

    def _hold_start(self, attempt: Attempt) -> Path | None:
        """Return the folder of the checkpoint to begin with. Its trainer checks every file against the manifest.

        Only the database knows the right manifest, so the manifest is checked here.
        """
        checkpoint = attempt.starts_from
        if checkpoint is None:
            return None
        try:
            folder = self._hold(attempt, checkpoint.key)
            if not has_its_manifest(folder, checkpoint.manifest_sha256):
                raise PreparationFailed("checkpoint_corrupt", f"{MANIFEST} of {checkpoint.id} is not the one committed")
        except StoredFilesDamaged as exc:
            raise PreparationFailed("checkpoint_corrupt", f"{checkpoint.id}: {exc}") from exc
        except FileNotFoundError as exc:
            raise PreparationFailed("checkpoint_missing", f"{checkpoint.id} is not in the store: {exc}") from exc
        return folder

    def _hold_best(self, attempt: Attempt, best: Checkpoint | None) -> Path | None:
        """Return the folder of the best checkpoint so far. None: it can't be used, and later ones replace it."""
        if best is None:
            return None
        try:
            return self._hold(attempt, best.key, without=STATE)
        except (StoredFilesDamaged, FileNotFoundError) as exc:
            log.warning("the best checkpoint can't be used: %s", exc, extra={"checkpoint": best.id})
            return None

    def _hold(self, attempt: Attempt, key: str, *, without: str = "") -> Path:
        """Return a local folder of the store that is kept until the attempt's end. Heartbeats go on in the meantime."""
        context = self._storage.materialise(key, without=without)
        if self._storage.publishes_at_once:
            return attempt.held.enter_context(context)
        tick_s = self._settings.tick_s
        return enter_beside(context, attempt.held, while_waiting=lambda: self.beat(attempt), tick_s=tick_s)

    def _follow(self, attempt: Attempt, key: str) -> Path:
        """Return the path to which the trainer appends, while readers read what it writes under a key."""
        path = self._storage.place(key, attempt.writer)
        path.parent.mkdir(parents=True, exist_ok=True)
        attempt.held.enter_context(self._storage.following(path, key, attempt.lease.lease_epoch))
        return path

    def _ready_pack(self, attempt: Attempt) -> Path:
        """Return the folder of the job's pack. A built-in one is made first if it is missing."""
        dataset, job = attempt.job.its_dataset, attempt.job
        if not has_pack(self._storage, dataset):
            with self._database.writing() as session:
                data = {"phase": "preparing_dataset", "dataset": dataset.id}
                report_event(session, attempt.lease, EventType.PHASE, reason="preparing_dataset", data=data)
                write_fenced(session, attempt.lease, {"state_reason": "preparing_dataset"})
            digest = prepare_builtin(
                self._settings, self._database, self._storage, dataset, while_waiting=lambda: self.beat(attempt)
            )
            dataset.digest = dataset.digest or digest
        if job.dataset_digest is None:
            with self._database.writing() as session:
                write_fenced(session, attempt.lease, {"dataset_digest": dataset.digest})
            job.dataset_digest = dataset.digest
        try:
            return self._hold(attempt, dataset.key)
        except FileNotFoundError as exc:
            raise PreparationFailed("dataset_damaged", f"The pack of {dataset.id} is missing: {exc}") from exc
        except StoredFilesDamaged as exc:
            self._storage.delete(dataset.key)  # so that a built-in one is made again
            raise PreparationFailed("dataset_damaged", f"The pack of {dataset.id} in the store: {exc}") from exc

    def beat(self, attempt: Attempt) -> None:
        """Send a heartbeat while something other than training goes on.

        Raises:
            StopRequested: there is no point in going on.
            LeaseLost: the lease is over.
        """
        if self._is_draining():
            raise StopRequested(StopReason.DRAIN)
        try:
            with self._database.writing() as session:
                desired = heartbeat(session, attempt.lease, self._settings.lease_ttl_s)
        except DatabaseUnavailable:
            log.warning("the database does not answer; the preparation goes on")
            return
        if desired is not Desired.RUN:
            raise StopRequested(StopReason(desired))


def _read_config(job: Job) -> TrainConfig:
    """Read the job's config, which an older version may have stored."""
    try:
        return TrainConfig.model_validate_json(json.dumps(job.config))
    except ValidationError as exc:
        raise PreparationFailed("config_invalid", f"The job's config does not fit this version: {exc}") from exc


def _needed(checkpoint: Checkpoint | None, checkpoint_id: str) -> Checkpoint:
    """Return the checkpoint that a job must begin with. Without it, it would not be the same job."""
    if checkpoint is None:
        raise PreparationFailed(
            "no_valid_checkpoint", f"Checkpoint {checkpoint_id}, which the job should begin with, can't be used."
        )
    return checkpoint
