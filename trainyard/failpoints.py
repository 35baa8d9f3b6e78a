"""For tests only: all points at which a process of the yard can be made to fail on purpose.

`TRAINYARD_FAILPOINTS="after_claim=kill9,step_50=sleep:9999"`, refused without `TRAINYARD_TESTING=1`. The actions are
`exit`, `kill9`, `abort`, `sleep:SECONDS`, `enospc`, `raise`, `spin` and `allocate`; `once:kill9` happens once in the
life of a data folder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Protocol

from trainyard.settings import Settings

API, WORKER, TRAINER, INTAKE, PREDICTION = "api", "worker", "trainer", "intake", "prediction"
NAMES: dict[str, str] = {  # and the process in which each is
    "before_commit": API,  # `POST /jobs`: the job is written, not committed
    "after_commit": API,  # `POST /jobs`: committed, not answered
    "relay_after_reading": API,  # the relay has read the outbox, and sent nothing
    "relay_after_wake_up": API,  # it has sent the messages, and they are still in the outbox
    "after_claim": WORKER,  # a job is claimed, nothing else was done
    "before_checkpoint_commit": WORKER,  # a checkpoint's folder is in place, but not in the database
    "after_checkpoint_commit": WORKER,  # it is in the database, and nothing else was done
    "before_final_write": WORKER,  # the trainer has ended, the job's end is not written
    "before_checkpoint_rename": TRAINER,  # a checkpoint is whole under its temporary name
    "after_checkpoint_rename": TRAINER,  # it is in place, the worker was not told
    "checkpoint_byte_N": TRAINER,  # so many bytes of a checkpoint are on disk
    "step_N": TRAINER,  # so many steps are done
    "in_final_evaluation": TRAINER,  # the run is tested, and its detailed evaluation has begun
    "intake_checking_N": INTAKE,  # so many headers of a dataset's files are read
    "intake_packing_N": INTAKE,  # so many of its images are in the pack
    "predict_row_N": PREDICTION,  # so many rows of a prediction are computed
    "predict_segment_N": PREDICTION,  # the segment that begins with this row is on the disk, under a temporary name
    "before_recording_N": WORKER,  # the segment that begins with this row is in the store, and not in the database
    "before_settling": WORKER,  # a dataset's pack is in the store, and not in the database
}


class Points(Protocol):
    """The failures that are set up. It is `alexnet_core.failpoints.Failpoints`, which must not be imported here."""

    def hit(self, name: str) -> None:
        """Fail here, if that is set up."""


_handed: dict[str, str] = {}  # what is to fail, with the folder for marks; empty but in tests
_points: Points | None = None  # of this process


def arm(settings: Settings, build: Callable[[Mapping[str, str]], Points]) -> None:
    """Set up the failures that the settings name, in this process.

    Args:
        settings: with `failpoints`.
        build: makes what fails.

    Raises:
        ValueError: there is no such place.
    """
    global _handed, _points
    for name in settings.failpoint_values:
        if re.sub(r"_[0-9]+$", "_N", name) not in NAMES:
            raise ValueError(f"there is no failpoint {name!r}: {', '.join(NAMES)}")
    if not settings.failpoint_values:
        return
    marks = settings.data_dir.absolute() / "failpoints"
    marks.mkdir(parents=True, exist_ok=True)
    _handed = settings.failpoint_values | {"marks": str(marks)}
    _points = build(_handed)


def for_child() -> dict[str, str]:
    """Return the failures that a worker's child is given: a trainer, or one that takes in a dataset or predicts."""
    return dict(_handed)


def hit(name: str) -> None:
    """Fail here, if that is set up."""
    if _points is not None:
        _points.hit(name)
