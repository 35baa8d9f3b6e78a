"""An attempt, as the worker that trains it sees it, and how it ended."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from alexnet_core.messages import (
    WORKER_WAS_SILENT,
    AnyReport,
    CheckpointSaved,
    Failed,
    Finished,
    Outcome,
    StopReason,
)
from trainyard import tracing
from trainyard.database.tables import Checkpoint, Job
from trainyard.json_values import finite
from trainyard.scheduling.leases import Ending, Lease
from worker.publisher import Publisher


@dataclass(frozen=True)
class Slot:
    """The place where an attempt runs: its device and threads."""

    device: str
    lock_path: Path
    threads: int


@dataclass
class Attempt:
    """What a worker knows about an attempt that it is training."""

    job: Job
    lease: Lease
    slot: Slot
    publisher: Publisher  #: uploads its checkpoints to the store
    starts_from: Checkpoint | None = None  #: what its trainer loads first
    held: ExitStack = field(default_factory=ExitStack)  #: what it reads from the store, and the streams it writes
    pending: list[AnyReport] = field(default_factory=list)  #: received, not written yet
    arrived_at: dict[str, float] = field(default_factory=dict)  #: `perf_counter` by the name of a checkpoint
    outcome: Finished | Failed | None = None  #: the trainer's last report
    stop_reason: StopReason | None = None  #: what the trainer was told
    attended_s: float = 0.0  #: the time that this process was awake and supervised it
    stop_asked_at: float = 0.0  #: in `attended_s`
    killed_as: str | None = None  #: the failure code under which we killed it
    gave_up_publishing: bool = False  #: the store did not take its last checkpoints for too long
    was_terminated: bool = False  #: it did not stop in time, and got a signal

    @property
    def writer(self) -> str:
        """A name that tells this attempt's files from those of the job's other attempts."""
        return f"{self.lease.job_id}-e{self.lease.lease_epoch}"

    @property
    def left_its_trainer_as_new(self) -> bool:
        """Whether its trainer was stopped normally and can serve another attempt."""
        stays = isinstance(self.outcome, Finished) and self.outcome.stays
        return stays and self.killed_as is None and not self.was_terminated

    def trace_checkpoints(self) -> None:
        """Record for each checkpoint that was just committed the time since its trainer reported it."""
        for report in self.pending:
            if isinstance(report, CheckpointSaved) and (began_at := self.arrived_at.pop(report.path.name, None)):
                facts: dict[str, str | int] = {"epoch": report.epoch, "step": report.step, "kind": report.kind.value}
                tracing.record("checkpoint", began_at, attributes=facts | {"size_bytes": report.size_bytes})

    def judge(self, status: int) -> Ending:
        """Determine how it ended, from the trainer's last report or, without one, from its exit status."""
        if self.gave_up_publishing:
            return Ending(failure="storage_unavailable")
        if isinstance(self.outcome, Finished):
            return self._judge_finished(self.outcome)
        if self.outcome is not None:
            return Ending(failure=self.outcome.code, message=self.outcome.message)
        if self.killed_as is not None:
            return Ending(failure=self.killed_as, is_jobs_fault=self.killed_as != "lease_lost")
        if self.stop_reason is not None:
            return Ending(stopped=self.stop_reason.value)
        if status == WORKER_WAS_SILENT:  # we were frozen, and nobody took the job over
            return Ending(failure="lease_lost")
        if status < 0:
            return Ending(failure="trainer_killed", message=f"The training process was killed by signal {-status}.")
        return Ending(failure="internal_error", message=f"The training process ended with status {status} and no word.")

    def _judge_finished(self, report: Finished) -> Ending:
        if report.outcome is Outcome.SUCCEEDED:
            return Ending(succeeded=True, test=finite(report.test), weights_sha256=report.weights_sha256)
        if report.outcome is Outcome.MAX_RUNTIME:
            text = f"The job has trained for its max_runtime_s ({self.job.max_runtime_s:g} s); step "
            return Ending(failure="max_runtime", message=text + f"{report.step} is saved: retry it from there.")
        return Ending(stopped=(report.reason or StopReason.DRAIN).value)
