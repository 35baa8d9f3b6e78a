"""The sets of values that the database stores, and the changes of a job's state that are allowed.

The columns of `trainyard.database.tables` have these types: a value that is read is a member, and any other value is
refused.
"""

from __future__ import annotations

from enum import StrEnum


class WorkKind(StrEnum):
    """What a row of `jobs` asks a worker to do. All kinds are claimed, leased, retried and drained by the same code."""

    TRAIN = "train"  #: a job, as users know it
    VALIDATE = "validate"  #: read an uploaded dataset, check it and make its pack
    PREDICT = "predict"  #: predict all images of a dataset or an archive


class JobState(StrEnum):
    """The stored state of a job; only `jobs.move` writes it."""

    QUEUED = "queued"  #: committed; no worker has it yet
    RUNNING = "running"  #: a worker holds a live lease
    PAUSED = "paused"  #: stopped on request, a checkpoint is kept; only a resume or a cancel moves it
    SUCCEEDED = "succeeded"  #: final: every epoch is done and the best checkpoint is stored
    FAILED = "failed"  #: final: `error` says why
    CANCELLED = "cancelled"  #: final: stopped on request

    @property
    def is_final(self) -> bool:
        """Whether the job can never change its state again."""
        return not MOVES[self]


class Desired(StrEnum):
    """What the owner wants of a running job; the API writes it, the worker reads it."""

    RUN = "run"  #: train to the end
    PAUSE = "pause"  #: stop after the current step and wait for a resume
    CANCEL = "cancel"  #: stop after the current step for good; never taken back


class ShownState(StrEnum):
    """The state that clients see: the stored states and two in between."""

    QUEUED = "queued"
    RUNNING = "running"
    PAUSING = "pausing"  #: running, and told to pause
    CANCELLING = "cancelling"  #: running, and told to stop for good
    PAUSED = "paused"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class EventType(StrEnum):
    """The kind of an event."""

    STATE = "state"  #: the shown state changed
    PHASE = "phase"  #: a running job does something other than training, such as preparing its dataset
    STARTED = "started"  #: a trainer is about to make its first step
    CHECKPOINT = "checkpoint"  #: a checkpoint was committed
    WARNING = "warning"  #: something that the user should know; the job goes on
    CHANGED = "changed"  #: its owner changed its name, note, metadata or priority
    RESULTS = "results"  #: more rows of a prediction's results can be read


class YardEventKind(StrEnum):
    """What an event of the yard is about."""

    JOB = "job"  #: a job is new or has changed
    GONE = "gone"  #: a job or a dataset was deleted, or a checkpoint can't be used any more
    CHECKPOINT = "checkpoint"  #: a checkpoint was committed, with which its job has changed, or can be used again
    DATASET = "dataset"  #: a dataset is new or has changed


class MetricKind(StrEnum):
    """Which of a job's two series a point belongs to."""

    INTERVAL = "interval"  #: every few steps
    EPOCH = "epoch"  #: at the end of each epoch


class CheckpointStatus(StrEnum):
    """Whether a checkpoint's files can be used."""

    COMMITTED = "committed"  #: all files are there, and verified before each use
    CORRUPT = "corrupt"  #: a file does not match its sha256: it is never used again, and its files are removed later
    MISSING = "missing"  #: its files are not in the store: looked for again, and used again once they are there
    PRUNED = "pruned"  #: given up; its files are removed after a grace period
    DELETED = "deleted"  #: its files have been removed


class DatasetState(StrEnum):
    """Whether a dataset is ready."""

    REGISTERED = "registered"  #: built in; its pack is made before the first job that needs it
    UPLOADING = "uploading"  #: it names an upload that is not complete
    VALIDATING = "validating"  #: a worker reads it, or will
    READY = "ready"  #: its pack is complete and will never change
    REJECTED = "rejected"  #: it can't be used; `error` and `report` say why
    DELETED = "deleted"  #: removed, but jobs that have ended still name it; nobody sees it


class UploadState(StrEnum):
    """Whether all bytes of an upload have arrived. One that was cancelled, has expired or was used has no row."""

    OPEN = "open"  #: bytes are still to come, or its file is being stored
    WHOLE = "whole"  #: its file is complete and in the storage; a dataset can be made of it


class Side(StrEnum):
    """The part that a checkpoint plays for an alias."""

    STABLE = "stable"  #: answers all requests, but for the canary's share
    CANARY = "canary"  #: answers a share of the requests
    SHADOW = "shadow"  #: computes what the others have answered, and its answers are only compared


class AliasAction(StrEnum):
    """What somebody did to an alias."""

    MOVE = "move"  #: made it, or named another checkpoint, canary or shadow
    ROLLBACK = "rollback"  #: went back to a checkpoint that it named before
    DELETE = "delete"


MOVES: dict[JobState, frozenset[JobState]] = {
    JobState.QUEUED: frozenset({JobState.RUNNING, JobState.PAUSED, JobState.FAILED, JobState.CANCELLED}),
    JobState.RUNNING: frozenset(
        {JobState.QUEUED, JobState.PAUSED, JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED}
    ),
    JobState.PAUSED: frozenset({JobState.QUEUED, JobState.FAILED, JobState.CANCELLED}),
    JobState.SUCCEEDED: frozenset(),
    JobState.FAILED: frozenset(),
    JobState.CANCELLED: frozenset(),
}


def shown_state(state: JobState, desired: Desired) -> ShownState:
    """Return the state that clients see, everywhere: in the job, its history, filters and events."""
    if state is JobState.RUNNING and desired is Desired.PAUSE:
        return ShownState.PAUSING
    if state is JobState.RUNNING and desired is Desired.CANCEL:
        return ShownState.CANCELLING
    return ShownState(state)


def stored_states(shown: ShownState) -> tuple[JobState, Desired | None]:
    """Return the stored pair that is shown as this state, for filters; None: any `desired`.

    It is the inverse of `shown_state`.
    """
    if shown is ShownState.PAUSING:
        return JobState.RUNNING, Desired.PAUSE
    if shown is ShownState.CANCELLING:
        return JobState.RUNNING, Desired.CANCEL
    if shown is ShownState.RUNNING:
        return JobState.RUNNING, Desired.RUN
    return JobState(shown), None
