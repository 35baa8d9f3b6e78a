"""The life of a job: what is stored, what is asked for, what is shown, and every move that is allowed."""

from __future__ import annotations

from enum import StrEnum


class JobState(StrEnum):
    """What is stored; only `jobs.move` writes it."""

    QUEUED = "queued"  #: committed; no worker has it yet
    RUNNING = "running"  #: a worker holds a live lease
    PAUSED = "paused"  #: stopped on request, a checkpoint is kept; only a resume or a cancel moves it
    SUCCEEDED = "succeeded"  #: final: every epoch is done and the best checkpoint is stored
    FAILED = "failed"  #: final: `error` says why
    CANCELLED = "cancelled"  #: final: stopped on request

    @property
    def is_final(self) -> bool:
        """Whether the job can never move again."""
        return not MOVES[self]


class Desired(StrEnum):
    """What the owner asked for; the API writes it, the worker reads it."""

    RUN = "run"  #: go on to the end
    PAUSE = "pause"  #: stop at the next step and wait for a resume
    CANCEL = "cancel"  #: stop at the next step for good; never taken back


class ShownState(StrEnum):
    """What clients see: the stored states and the two in between."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"  #: running, and told to pause
    CANCELLING = "cancelling"  #: running, and told to stop for good
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.PAUSED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def shown_state(state: JobState, desired: Desired) -> ShownState:
    """The state that clients see, everywhere: in the job, its history, filters and events."""
    if state is JobState.RUNNING and desired is Desired.PAUSE:
        return ShownState.PAUSING
    if state is JobState.RUNNING and desired is Desired.CANCEL:
        return ShownState.CANCELLING
    return ShownState(state.value)


def stored_states(shown: ShownState) -> tuple[JobState, Desired | None]:
    """The stored pair that is shown so; None: any `desired`. The inverse of `shown_state`, for filters."""
    if shown is ShownState.PAUSING:
        return JobState.RUNNING, Desired.PAUSE
    if shown is ShownState.CANCELLING:
        return JobState.RUNNING, Desired.CANCEL
    if shown is ShownState.RUNNING:
        return JobState.RUNNING, Desired.RUN
    return JobState(shown.value), None
