"""One attempt of one job: prepares, starts a trainer, carries its reports into the books, and gives the job back.

Everything that a trainer reports is written in one transaction a tick, under the lease. If the lease is over, nothing
is written, the trainer is killed and its uncommitted files are removed. A database that does not answer does not stop
the training: reports wait until it does.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from trainyard import failpoints
from trainyard.checkpoints import MANIFEST, find_resumable, find_usable, has_its_manifest, mark_corrupt
from trainyard.database import Database
from trainyard.errors import DatabaseUnavailable, LeaseLost, ServiceError
from trainyard.events import EventType
from trainyard.job_log import log_key
from trainyard.json_values import finite
from trainyard.leases import Ending, Lease, end_attempt, heartbeat, report_event, write_fenced
from trainyard.leftovers import sweep_jobs
from trainyard.settings import Settings
from trainyard.states import Desired
from trainyard.storage import Storage
from trainyard.tables import Checkpoint, Job
from worker.ledger import write_reports
from worker.preparation import PreparationFailed, has_pack, prepare_builtin
from worker.trainer import Report, TrainerProcess, WarmTrainers

log = logging.getLogger(__name__)

URGENT = frozenset({"started", "first_step", "epoch", "checkpoint", "warning", "finished", "failed"})


class StopWished(Exception):
    """The owner, or the worker's own end, wants the attempt to stop before its trainer began."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Slot:
    """Where an attempt runs."""

    device: str
    lock_path: Path
    threads: int


@dataclass
class Attempt:
    """What a supervisor knows of the attempt in its hands."""

    job: Job
    lease: Lease
    slot: Slot
    starts_from: Checkpoint | None = None  #: what its trainer loads first
    pending: list[Report] = field(default_factory=list)  #: received, not written yet
    outcome: Report | None = None  #: `finished` or `failed`
    stop_reason: str | None = None  #: what the trainer was told
    stop_asked_at: float = 0.0
    killed_as: str | None = None  #: the failure code under which we killed it


class Supervisor:
    """Runs attempts, one at a time; one supervisor a slot."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        trainers: WarmTrainers,
        *,
        is_draining: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._settings, self._database, self._storage, self._trainers = settings, database, storage, trainers
        self._is_draining, self._clock, self._sleep = is_draining, clock, sleep

    def run(self, job: Job, lease: Lease, slot: Slot) -> None:
        """Run an attempt to its end and give the job back. Raises nothing that the job can be blamed for."""
        attempt = Attempt(job, lease, slot)
        facts = {"job_id": job.id, "lease_epoch": lease.lease_epoch, "attempt": job.attempt}
        log.info("attempt begins", extra=facts | {"device": slot.device})
        try:
            ending = self._train(attempt)
            self._give_back(attempt, ending)
        except LeaseLost as exc:
            log.warning("attempt ends: %s", exc, extra=facts)
            self._sweep(attempt)
            return
        log.info("attempt ends", extra=facts | {"ending": str(ending)})

    def _train(self, attempt: Attempt) -> Ending:
        try:
            spec = self._wait_for_spec(attempt)
        except StopWished as exc:
            return Ending(stopped=exc.reason)
        except PreparationFailed as exc:
            return Ending(failure=exc.code, message=str(exc))
        except (OSError, ServiceError) as exc:
            log.exception("an attempt could not be prepared")
            is_full = isinstance(exc, OSError) and exc.errno in {errno.ENOSPC, errno.EDQUOT}
            return Ending(failure="disk_full" if is_full else "internal_error", message=f"{type(exc).__name__}: {exc}")
        try:
            trainer = self._trainers.take()
        except RuntimeError:  # the worker is closing
            return Ending(stopped="drain")
        try:
            trainer.send(spec)
            self._attend(attempt, trainer)
        finally:
            trainer.kill()
            status = trainer.wait()
            self._trainers.want_spare()
        return self._judge(attempt, status)

    # --- before the trainer ---

    def _wait_for_spec(self, attempt: Attempt) -> dict[str, Any]:
        """The trainer's spec, however long the database takes to answer: that is not the job's fault.

        Raises:
            StopWished: the attempt must not begin.
        """
        while True:
            try:
                spec = self._build_spec(attempt)
                self._beat(attempt)
                return spec
            except DatabaseUnavailable:
                log.warning("the database does not answer; the attempt waits", extra={"job_id": attempt.job.id})
            if self._is_draining():
                raise StopWished("drain")
            self._sleep(self._settings.tick_s)

    def _build_spec(self, attempt: Attempt) -> dict[str, Any]:
        job, slot = attempt.job, attempt.slot
        pack = self._ready_pack(attempt)
        with self._database.reading() as session:
            best = find_usable(session, (job.best or {}).get("checkpoint"))
            resume_from = find_resumable(session, job.id)
            if resume_from is None and job.resume_from is not None:
                resume_from = _needed(find_usable(session, job.resume_from, with_state=True), job.resume_from)
            init_from = None
            if resume_from is None and job.init_from is not None:
                init_from = _needed(find_usable(session, job.init_from), job.init_from)
        attempt.starts_from = resume_from or init_from
        self._check_manifest(attempt.starts_from)
        root = self._storage.folder(f"checkpoints/{job.id}")
        root.mkdir(parents=True, exist_ok=True)
        sweep_jobs(self._database, self._storage, [job.id])
        log_path = self._settings.data_dir.absolute() / log_key(job.id)
        log_path.parent.mkdir(parents=True, exist_ok=True)
        return {
            "type": "spec",
            "job_id": job.id,
            "lease_epoch": attempt.lease.lease_epoch,
            "seed": job.seed,
            "config": job.config,
            "pack_dir": str(pack),
            "pack_digest": job.dataset_digest,
            "checkpoint_root": str(root),
            "resume_from": self._folder_of(resume_from),
            "best_checkpoint": self._folder_of(best),
            "init_from": self._folder_of(init_from),
            "max_runtime_s": job.max_runtime_s,
            "device": slot.device,
            "num_threads": slot.threads,
            "recovery_every_s": self._settings.recovery_every_s,
            "log_path": str(log_path),
            "lock_path": str(slot.lock_path),
            "tensorboard_dir": str(self._storage.folder(f"tensorboard/{job.id}")),
            "failpoints": failpoints.for_trainer(),
        }

    def _folder_of(self, checkpoint: Checkpoint | None) -> str | None:
        return str(self._storage.folder(checkpoint.key)) if checkpoint is not None else None

    def _check_manifest(self, checkpoint: Checkpoint | None) -> None:
        """The trainer checks every file against the manifest; the books alone can tell that the manifest is the one."""
        with contextlib.suppress(FileNotFoundError):  # the trainer will say so
            folder = None if checkpoint is None else self._storage.folder(checkpoint.key)
            if checkpoint is not None and folder and not has_its_manifest(folder, checkpoint.manifest_sha256):
                raise PreparationFailed("checkpoint_corrupt", f"{MANIFEST} of {checkpoint.id} is not the one committed")

    def _ready_pack(self, attempt: Attempt) -> Path:
        """The folder of the job's pack, made first if it is a built-in one that nobody made here yet."""
        dataset, job = attempt.job.dataset, attempt.job
        if not has_pack(self._storage, dataset):
            with self._database.writing() as session:
                data = {"phase": "preparing_dataset", "dataset": dataset.id}
                report_event(session, attempt.lease, EventType.PHASE, reason="preparing_dataset", data=data)
                write_fenced(session, attempt.lease, {"state_reason": "preparing_dataset"})
            digest = prepare_builtin(
                self._settings, self._database, self._storage, dataset, while_waiting=lambda: self._beat(attempt)
            )
            dataset.digest = dataset.digest or digest
        if job.dataset_digest is None:
            with self._database.writing() as session:
                write_fenced(session, attempt.lease, {"dataset_digest": dataset.digest})
            job.dataset_digest = dataset.digest
        return self._storage.folder(dataset.key)

    def _beat(self, attempt: Attempt) -> None:
        """A heartbeat while something else than training goes on.

        Raises:
            StopWished: there is no point in going on.
            LeaseLost: the lease is over.
        """
        if self._is_draining():
            raise StopWished("drain")
        try:
            with self._database.writing() as session:
                desired = heartbeat(session, attempt.lease, self._settings.lease_ttl_s)
        except DatabaseUnavailable:
            log.warning("the database does not answer; the preparation goes on")
            return
        if desired is not Desired.RUN:
            raise StopWished(desired.value)

    # --- while it trains ---

    def _attend(self, attempt: Attempt, trainer: TrainerProcess) -> None:
        """Carry reports until the trainer has had its last word, or has ended without; kill it when it must."""
        last_report = last_write = self._clock()
        while True:
            had_report = self._collect(attempt, trainer)
            if had_report:
                last_report = self._clock()
            if self._write(attempt, trainer):
                last_write = self._clock()
            if (trainer.has_ended or attempt.outcome is not None) and not attempt.pending:
                return  # after its last word a trainer has nothing to do but to leave, which takes torch seconds
            if trainer.has_ended or attempt.killed_as:
                continue
            if self._clock() - last_report > self._settings.hang_s:
                self._kill(attempt, trainer, "hung")
            elif self._clock() - last_write > self._settings.self_fence_s:
                self._kill(attempt, trainer, "lease_lost")
                return
            self._enforce_stop(attempt, trainer)

    def _collect(self, attempt: Attempt, trainer: TrainerProcess) -> bool:
        """Receive until the tick is over or something urgent came. The ledger merges progress between two ticks."""
        deadline = self._clock() + self._settings.tick_s
        had_report = False
        if trainer.has_ended:  # what is pending could not be written: wait before the next try
            self._sleep(self._settings.tick_s)
        while not trainer.has_ended and (left := deadline - self._clock()) > 0:
            report = trainer.receive(left)
            if report is None:
                continue
            had_report = True
            if report["type"] == "first_step":
                self._trainers.want_spare()
            if report["type"] in {"finished", "failed"}:
                attempt.outcome = report
            if report["type"] != "ready":
                attempt.pending.append(report)
            if report["type"] in URGENT:
                break
        return had_report

    def _write(self, attempt: Attempt, trainer: TrainerProcess) -> bool:
        """Write what is pending, extend the lease and act on what the owner wants.

        Raises:
            LeaseLost: the lease is over; the trainer is dead.
        """
        try:
            with self._database.writing() as session:
                desired = self._write_in(session, attempt)
        except DatabaseUnavailable:
            log.warning("the database does not answer; training goes on", extra={"job_id": attempt.job.id})
            return False
        except LeaseLost:
            trainer.kill()
            raise
        if any(report["type"] == "checkpoint" for report in attempt.pending):
            failpoints.hit("after_checkpoint_commit")
        attempt.pending.clear()
        if desired is not Desired.RUN:
            self._ask_to_stop(attempt, trainer, desired.value)
        elif self._is_draining():
            self._ask_to_stop(attempt, trainer, "drain")
        return True

    def _write_in(self, session: Session, attempt: Attempt) -> Desired:
        if any(report["type"] == "checkpoint" for report in attempt.pending):
            failpoints.hit("before_checkpoint_commit")
        columns = write_reports(
            session, attempt.lease, self._storage, attempt.pending, keep_latest=self._settings.keep_latest
        )
        return heartbeat(session, attempt.lease, self._settings.lease_ttl_s, **columns)

    def _ask_to_stop(self, attempt: Attempt, trainer: TrainerProcess, reason: str) -> None:
        if attempt.stop_reason is None:
            attempt.stop_reason, attempt.stop_asked_at = reason, self._clock()
            trainer.send({"type": "stop", "reason": reason})

    def _enforce_stop(self, attempt: Attempt, trainer: TrainerProcess) -> None:
        """SIGTERM to a trainer that did not stop in time, later SIGKILL."""
        if attempt.stop_reason is None:
            return
        waited, grace = self._clock() - attempt.stop_asked_at, self._settings.stop_grace_s
        if waited > 2 * grace:
            log.warning("the trainer did not stop: killed", extra={"job_id": attempt.job.id})
            trainer.kill()
        elif waited > grace:
            trainer.terminate()

    def _kill(self, attempt: Attempt, trainer: TrainerProcess, code: str) -> None:
        log.warning("the trainer is killed: %s", code, extra={"job_id": attempt.job.id})
        attempt.killed_as = code
        trainer.kill()

    # --- after it ---

    def _judge(self, attempt: Attempt, status: int) -> Ending:
        """How the attempt ended, from the trainer's last word or, without one, from its exit status."""
        outcome = attempt.outcome
        if outcome is not None and outcome["type"] == "finished":
            if outcome["outcome"] == "succeeded":
                test = finite(outcome.get("test"))
                return Ending(succeeded=True, test=test, weights_sha256=outcome["weights_sha256"])
            if outcome["outcome"] == "max_runtime":
                text = f"The job has trained for its max_runtime_s ({attempt.job.max_runtime_s:g} s); step "
                return Ending(failure="max_runtime", message=text + f"{outcome['step']} is saved: retry it from there.")
            return Ending(stopped=outcome.get("reason") or "drain")
        if outcome is not None:
            return Ending(failure=outcome["code"], message=outcome["message"])
        if attempt.killed_as is not None:
            return Ending(failure=attempt.killed_as)
        if attempt.stop_reason is not None:
            return Ending(stopped=attempt.stop_reason)
        if status < 0:
            return Ending(failure="trainer_killed", message=f"The training process was killed by signal {-status}.")
        return Ending(failure="internal_error", message=f"The training process ended with status {status} and no word.")

    def _give_back(self, attempt: Attempt, ending: Ending) -> None:
        """Write the attempt's end, however long the database takes to answer.

        Raises:
            LeaseLost: somebody else took the job meanwhile.
        """
        failpoints.hit("before_final_write")
        while True:
            try:
                with self._database.writing() as session:
                    if ending.failure == "checkpoint_corrupt" and attempt.starts_from is not None:
                        mark_corrupt(session, attempt.starts_from.id, ending.message or "")
                    end_attempt(session, attempt.lease, ending, first_backoff_s=self._settings.backoff_s)
                return
            except DatabaseUnavailable:
                log.warning("the database does not answer; the job's end waits", extra={"job_id": attempt.job.id})
                self._sleep(self._settings.tick_s)

    def _sweep(self, attempt: Attempt) -> None:
        """Remove the checkpoints of this attempt that never came into the books; if not now, the reconciler will."""
        try:
            sweep_jobs(self._database, self._storage, [attempt.job.id])
        except DatabaseUnavailable:
            log.warning("the database does not answer; what is left over stays for now")


def _needed(checkpoint: Checkpoint | None, checkpoint_id: str) -> Checkpoint:
    """The checkpoint that a job was promised to begin with; without it the job would be another one."""
    if checkpoint is None:
        raise PreparationFailed("no_valid_checkpoint", f"Checkpoint {checkpoint_id}, to begin with, can't be used.")
    return checkpoint
