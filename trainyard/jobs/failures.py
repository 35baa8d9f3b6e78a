"""Why attempts fail and what follows: one table for errors of the core, the worker and the reaper.

It lists only what a job can end with. A test follows the trainer's imports to check this.
"""

from __future__ import annotations

from dataclasses import dataclass

MAX_BACKOFF_S = 300.0
DISK_FULL_WAIT_S = 30.0


@dataclass(frozen=True)
class Failure:
    """What a failure code means for the job."""

    code: str
    sentence: str
    retryable: bool
    counts: bool = True  #: raises `failures`, so that it can end in `crash_loop`


_TABLE = [
    Failure(
        "trainer_killed", "The training process was killed by a signal, or by the kernel because memory ran out.", True
    ),
    Failure("hung", "Training made no progress for too long and was stopped.", True),
    Failure("lease_lost", "The worker stopped answering; another one takes over.", True),
    Failure("internal_error", "The training process ended with an error.", True),
    Failure("protocol_error", "Worker and trainer did not understand each other: do they have the same version?", True),
    Failure("preparation_failed", "The dataset could not be prepared; the next try may succeed.", True),
    Failure("checkpoint_corrupt", "The checkpoint to resume from was damaged; the one before it is used.", True, False),
    Failure(
        "checkpoint_missing",
        "The checkpoint to resume from is not in the store; the one before it is used.",
        True,
        False,
    ),
    Failure(
        "storage_unavailable", "The store could not be used for a long time; the job goes on by itself.", True, False
    ),
    Failure("disk_full", "The disk is full; the job goes on by itself once there is space.", True, False),
    Failure("max_runtime", "The job has trained for as long as its max_runtime_s allows.", False),
    Failure("no_valid_checkpoint", "The checkpoint that the job should begin with is damaged or was removed.", False),
    Failure("out_of_memory", "The job does not fit into the device's memory: lower batch_size or image_px.", False),
    Failure("diverged", "The loss is no longer a finite number: lower lr, or use another recipe.", False),
    Failure("dataset_unavailable", "The dataset's source files were not found.", False),
    Failure("dataset_invalid", "The dataset's files can't be trained on: its report says what to change.", False),
    Failure("dataset_too_costly", "To read the dataset takes more memory, time or disk than is allowed.", False),
    Failure("parser_crash", "The process that reads the dataset crashed on one of its files.", False),
    Failure("validation_killed", "The process that reads the dataset was killed; the next try may succeed.", True),
    Failure("upload_missing", "The upload is gone: upload the file again.", False),
    Failure(
        "prediction_failed",
        "The process that predicts was killed or ended with an error; the next try may succeed.",
        True,
    ),
    Failure("quota_exceeded", "The results take more than their owner may have: delete what is not needed.", False),
    Failure("dataset_rejected", "The dataset was rejected: its report says why.", False),
    Failure("dataset_changed", "The dataset is not the one that this job began with.", False),
    Failure("dataset_damaged", "The dataset's pack was damaged on disk; a built-in one is made again.", True),
    Failure("config_invalid", "The config can't be trained on this dataset.", False),
    Failure("checkpoint_incompatible", "The checkpoint does not fit this job.", False),
    Failure("crash_loop", "It failed again and again without getting further.", False),
]

FAILURES: dict[str, Failure] = {failure.code: failure for failure in _TABLE}


def get_failure(code: str) -> Failure:
    """Return the rule for a code. An unknown one is treated as `internal_error`."""
    return FAILURES.get(code, FAILURES["internal_error"])


def backoff_s(failures: int, first_s: float) -> float:
    """Return the seconds to wait before the next try.

    They are `first_s`, doubled with each failure after the first; at most 5 minutes.
    """
    factor: int = 2 ** max(0, failures - 1)
    return min(MAX_BACKOFF_S, first_s * factor)
