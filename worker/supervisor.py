"""Runs one attempt of a job: starts a trainer, writes its reports to the database, and gives the job back.

In each tick everything that a trainer reported is written in one transaction, under the lease. If the lease has ended,
nothing is written, the trainer is killed and its uncommitted files are removed. If the database does not answer,
training goes on and reports wait.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from typing import TypeVar

from sqlalchemy.orm import Session

from alexnet_core.durable import is_disk_full
from alexnet_core.layout import checkpoints_key
from alexnet_core.messages import (
    Alive,
    CheckpointSaved,
    Failed,
    Finished,
    FirstStep,
    Interval,
    Progress,
    Ready,
    Spec,
    Stop,
    StopReason,
    StopRequested,
)
from trainyard import failpoints, tracing
from trainyard.artifacts.examination import Condition, set_aside_unless_whole
from trainyard.database.connection import BUSY_TIMEOUT_MS, Database
from trainyard.database.tables import Checkpoint, Job
from trainyard.errors import DatabaseUnavailable, LeaseLost, ServiceError, StorageUnavailable
from trainyard.scheduling.end_message import end_at_once
from trainyard.scheduling.leases import Ending, Lease
from trainyard.settings import Settings
from trainyard.states import Desired
from trainyard.storage.interface import Storage
from trainyard.upkeep.leftovers import sweep_jobs
from worker.attempt import Attempt, Slot
from worker.datasets.preparation import PreparationFailed
from worker.publisher import Publisher
from worker.report_writer import write_reports
from worker.trainer import TrainerProcess, WarmTrainers
from worker.trainer_spec import TrainerSpecs
from worker.waiting import run_beside

log = logging.getLogger(__name__)

T = TypeVar("T")

SIGNS_OF_LIFE = (Ready, Alive)  # nothing of them goes into the database
PATIENT = (*SIGNS_OF_LIFE, Progress, Interval)  # what can wait for the tick's end; all others are written at once
LONGEST_WRITE_S = BUSY_TIMEOUT_MS / 1000  # after which a database counts as unavailable
START_S = 120.0  # a cold trainer says nothing before it has torch loaded: on a busy machine that is no hang


class Supervisor:
    """Runs attempts, one at a time. There is one supervisor for each slot."""

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
        self._specs = TrainerSpecs(settings, database, storage, is_draining=is_draining, sleep=sleep)

    def run(self, job: Job, lease: Lease, slot: Slot) -> None:
        """Run an attempt to its end and give the job back.

        An unexpected error ends the attempt at once and with a reason; otherwise the job would wait until its lease
        expires.
        """
        publisher = Publisher(self._storage, job.id, keep_latest=self._settings.keep_latest)
        attempt = Attempt(job, lease, slot, publisher)
        facts: dict[str, str | int] = {"job_id": job.id, "lease_epoch": lease.lease_epoch, "attempt": job.attempt}
        told = facts | {"device": slot.device}
        log.info("attempt begins", extra=told)
        with tracing.span("attempt", parent=job.traceparent, kind="consumer", attributes=told) as span:
            self._run(attempt, facts, span)

    def _run(self, attempt: Attempt, facts: dict[str, str | int], span: tracing.Span) -> None:
        job, publisher = attempt.job, attempt.publisher
        try:
            try:
                ending = self._train(attempt)
            except LeaseLost:
                raise
            except Exception as exc:
                log.exception("an attempt ended with an error of the worker", extra=facts)
                ending = Ending(failure="internal_error", message=f"The worker: {type(exc).__name__}: {exc}")
            self._give_back(attempt, ending)
        except LeaseLost as exc:
            log.warning("attempt ends: %s", exc, extra=facts)
            span.fail("lease_lost")
            publisher.stop()
            self._sweep(attempt)
            return
        finally:
            publisher.stop()
            attempt.held.close()
            self._storage.clear(checkpoints_key(job.id), attempt.writer)
        log.info("attempt ends", extra=facts | {"ending": str(ending)})
        if ending.failure is not None:
            span.fail(ending.failure)

    def _train(self, attempt: Attempt) -> Ending:
        try:
            with tracing.span("prepare"):
                spec = self._specs.wait_for_spec(attempt)
        except StopRequested as exc:
            return Ending(stopped=exc.reason.value)
        except PreparationFailed as exc:
            return Ending(failure=exc.code, message=str(exc))
        except (OSError, ServiceError) as exc:
            log.exception("an attempt could not be prepared")
            is_full = is_disk_full(exc)
            return Ending(failure="disk_full" if is_full else "internal_error", message=f"{type(exc).__name__}: {exc}")
        try:
            trainer = self._trainers.take(while_waiting=lambda: self._specs.beat(attempt))
        except StopRequested as exc:
            return Ending(stopped=exc.reason.value)
        except RuntimeError:  # the worker is closing
            return Ending(stopped="drain")
        try:
            with tracing.span("train"):
                return attempt.judge(self._see_through(attempt, trainer, spec))
        except LeaseLost:
            raise
        except Exception as exc:  # whatever a trainer tells, its worker goes on with other jobs
            log.exception("an attempt could not be supervised to its end", extra={"job_id": attempt.job.id})
            return Ending(failure="internal_error", message=f"{type(exc).__name__}: {exc}")

    def _see_through(self, attempt: Attempt, trainer: TrainerProcess, spec: Spec) -> int:
        """Supervise a trainer to its end; returns its exit status, or 0 if it waits for another attempt."""
        is_kept = False
        try:
            trainer.send(spec)
            self._attend(attempt, trainer)
            is_kept = attempt.left_its_trainer_as_new and self._trainers.take_back(trainer)
        finally:
            if not is_kept:
                trainer.kill()
                trainer.wait()
                self._trainers.want_spare()
        return 0 if is_kept else trainer.wait()

    # --- while it trains ---

    def _attend(self, attempt: Attempt, trainer: TrainerProcess) -> None:
        """Write reports until the trainer's last one, or until it ends without; kill it when necessary.

        A round counts only for as long as it can take. If it took longer, this process was frozen, which is not the
        fault of the trainer or the database.
        """
        began, heard_at, written_at = self._clock(), 0.0, 0.0
        longest_silence = max(self._settings.hang_s, START_S)
        ended_at: float | None = None
        while True:
            was_heard = self._collect(attempt, trainer)
            was_written = self._write(attempt, trainer)
            last, began = began, self._clock()
            attempt.attended_s += min(began - last, self._settings.tick_s + LONGEST_WRITE_S)
            if was_heard:
                heard_at, longest_silence = attempt.attended_s, self._settings.hang_s
            if was_written:
                written_at = attempt.attended_s
            if trainer.has_ended or attempt.outcome is not None:
                if not attempt.pending and not attempt.publisher.is_busy:
                    return  # after its last report a trainer only has to end, which takes torch seconds
                ended_at = attempt.attended_s if ended_at is None else ended_at
                if attempt.attended_s - ended_at > self._settings.storage_patience_s and attempt.publisher.is_busy:
                    attempt.publisher.stop()
                    attempt.gave_up_publishing = True
            if trainer.has_ended or attempt.killed_as or (attempt.outcome is not None and not attempt.pending):
                continue
            if attempt.attended_s - heard_at > longest_silence:
                self._kill(attempt, trainer, "hung")
            elif attempt.attended_s - written_at > self._settings.self_fence_s:
                self._kill(attempt, trainer, "lease_lost")  # what is pending is written as soon as that can be
            self._enforce_stop(attempt, trainer)

    def _collect(self, attempt: Attempt, trainer: TrainerProcess) -> bool:
        """Receive reports until the tick is over or an urgent one came. The report writer merges progress reports."""
        deadline = self._clock() + self._settings.tick_s
        had_report = False
        if trainer.has_ended:  # what is pending could not be written: wait before the next try
            self._sleep(self._settings.tick_s)
        while not trainer.has_ended and (left := deadline - self._clock()) > 0:
            report = trainer.receive(left)
            if report is None:
                continue
            had_report = True
            if isinstance(report, FirstStep):
                self._trainers.want_spare()
            if isinstance(report, Finished | Failed):
                attempt.outcome = report
            if isinstance(report, CheckpointSaved):
                attempt.arrived_at[report.path.name] = time.perf_counter()
                attempt.publisher.submit(report)
                attempt.pending += attempt.publisher.take()
            elif not isinstance(report, SIGNS_OF_LIFE):
                attempt.pending.append(report)
            if not isinstance(report, PATIENT):
                break
        return had_report

    def _write(self, attempt: Attempt, trainer: TrainerProcess) -> bool:
        """Write what is pending, extend the lease and act on the desired state.

        Raises:
            LeaseLost: the lease is over; the trainer is dead.
        """
        attempt.pending += attempt.publisher.take()
        try:
            with self._database.writing() as session:
                desired = self._write_in(session, attempt)
        except DatabaseUnavailable:
            log.warning("the database does not answer; training goes on", extra={"job_id": attempt.job.id})
            return False
        except LeaseLost:
            trainer.kill()
            raise
        if any(isinstance(report, CheckpointSaved) for report in attempt.pending):
            failpoints.hit("after_checkpoint_commit")
            attempt.trace_checkpoints()
        attempt.pending.clear()
        if desired is not Desired.RUN:
            self._ask_to_stop(attempt, trainer, StopReason(desired.value))
        elif self._is_draining():
            self._ask_to_stop(attempt, trainer, StopReason.DRAIN)
        return True

    def _write_in(self, session: Session, attempt: Attempt) -> Desired:
        if any(isinstance(report, CheckpointSaved) for report in attempt.pending):
            failpoints.hit("before_checkpoint_commit")
        keep_latest, ttl_s = self._settings.keep_latest, self._settings.lease_ttl_s
        return write_reports(session, attempt.lease, attempt.pending, keep_latest=keep_latest, ttl_s=ttl_s)

    def _ask_to_stop(self, attempt: Attempt, trainer: TrainerProcess, reason: StopReason) -> None:
        if attempt.stop_reason is None:
            attempt.stop_reason, attempt.stop_asked_at = reason, attempt.attended_s
            trainer.send(Stop(reason=reason))

    def _enforce_stop(self, attempt: Attempt, trainer: TrainerProcess) -> None:
        """Send SIGTERM to a trainer that did not stop in time, and later SIGKILL."""
        if attempt.stop_reason is None:
            return
        waited, grace = attempt.attended_s - attempt.stop_asked_at, self._settings.stop_grace_s
        if waited > 2 * grace:
            log.warning("the trainer did not stop: killed", extra={"job_id": attempt.job.id})
            trainer.kill()
        elif waited > grace:
            attempt.was_terminated = True
            trainer.terminate()

    def _kill(self, attempt: Attempt, trainer: TrainerProcess, code: str) -> None:
        log.warning("the trainer is killed: %s", code, extra={"job_id": attempt.job.id})
        attempt.killed_as = code
        trainer.kill()

    # --- after it ---

    def _give_back(self, attempt: Attempt, ending: Ending) -> None:
        """Write the attempt's end, however long it takes the database to answer.

        Raises:
            LeaseLost: somebody else took the job meanwhile.
        """
        failpoints.hit("before_final_write")
        while True:
            try:
                if ending.failure in {"checkpoint_corrupt", "checkpoint_missing"} and attempt.starts_from is not None:
                    ending = self._look_at(attempt, attempt.starts_from, ending)
                end_at_once(self._database, attempt.lease, ending, first_backoff_s=self._settings.backoff_s)
                return
            except DatabaseUnavailable:
                log.warning("the database does not answer; the job's end waits", extra={"job_id": attempt.job.id})
                self._sleep(self._settings.tick_s)

    def _look_at(self, attempt: Attempt, checkpoint: Checkpoint, ending: Ending) -> Ending:
        """Take the checkpoint with which the attempt could not begin out of use, if the store confirms the damage.

        Returns:
            How the attempt ended, by what the store says.
        """

        def examine() -> Condition:
            return set_aside_unless_whole(self._database, self._storage, checkpoint, ending.message or "")

        def beat() -> None:
            with contextlib.suppress(StopRequested):
                self._specs.beat(attempt)

        try:
            condition = self._beside(examine, beat)
        except DatabaseUnavailable:
            raise
        except (OSError, StorageUnavailable) as exc:
            return Ending(failure="storage_unavailable", message=f"A checkpoint can't be looked at: {exc}")
        if condition is Condition.WHOLE:
            return Ending(failure="internal_error", message=f"{checkpoint.id} is whole, and yet: {ending.message}")
        code = "checkpoint_corrupt" if condition is Condition.DAMAGED else "checkpoint_missing"
        return Ending(failure=code, message=ending.message)

    def _beside(self, work: Callable[[], T], while_waiting: Callable[[], None]) -> T:
        if self._storage.publishes_at_once:
            return work()
        return run_beside(work, while_waiting=while_waiting, tick_s=self._settings.tick_s)

    def _sweep(self, attempt: Attempt) -> None:
        """Remove the checkpoints of this attempt that were not committed. What fails is left to the reconciler."""
        try:
            sweep_jobs(self._database, self._storage, [attempt.job.id])
        except (DatabaseUnavailable, StorageUnavailable) as exc:
            log.warning("leftovers are not removed now: %s", exc)
