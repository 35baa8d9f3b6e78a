"""The names of all files and folders that are kept: in a data folder, a checkpoint and a pack. Torch-free.

A data folder contains, by job and dataset:

checkpoints/job_…/epoch-00000042-e3/    a checkpoint: kind, step, and the lease under which it was written
packs/ds_…/                             a dataset's pack
uploads/upl_…/content                   the bytes of an upload
tensorboard/job_…/steps/, epochs/       event files
logs/jobs/job_….log                     what the trainers of a job wrote
evaluations/job_….jsonl                 how the job's best checkpoint does, and which labels are likely wrong
exports/ckpt_….onnx.…/                  a checkpoint in another format, made when it was first downloaded
predictions/pred_…/rows-00010000-e3/    results of a prediction from that row on, and the lease of their worker

A folder is written under a temporary name and renamed when it is complete; it is removed under a third name.
"""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

# --- a data folder ---

CHECKPOINTS, PACKS, TENSORBOARD, UPLOADS = "checkpoints", "packs", "tensorboard", "uploads"
EXPORTS = "exports"  #: on each machine with an API, also where the rest is in an object store
PREDICTIONS = "predictions"


def checkpoints_key(job_id: str) -> str:
    """Return the key of a job's checkpoints, below the data folder."""
    return f"{CHECKPOINTS}/{job_id}"


def checkpoint_key(job_id: str, name: str) -> str:
    """Return the key of the job's checkpoint with this name."""
    return f"{checkpoints_key(job_id)}/{name}"


def pack_key(dataset_id: str) -> str:
    """Return the key of a dataset's pack."""
    return f"{PACKS}/{dataset_id}"


def upload_key(upload_id: str) -> str:
    """Return the key of an upload, a folder with one file: `UPLOAD_CONTENT`."""
    return f"{UPLOADS}/{upload_id}"


def tensorboard_key(job_id: str) -> str:
    """Return the key of a job's event files."""
    return f"{TENSORBOARD}/{job_id}"


def log_key(job_id: str) -> str:
    """Return the key of the log that a job's trainers write."""
    return f"logs/jobs/{job_id}.log"


def evaluation_key(job_id: str) -> str:
    """Return the key of the evaluation that a job's trainer writes at its end."""
    return f"evaluations/{job_id}.jsonl"


def predictions_key(prediction_id: str) -> str:
    """Return the key of a prediction's results."""
    return f"{PREDICTIONS}/{prediction_id}"


def segment_key(prediction_id: str, name: str) -> str:
    """Return the key of the segment of a prediction's results with this name."""
    return f"{predictions_key(prediction_id)}/{name}"


# --- names while a folder is written or removed ---

TEMPORARY_PREFIX = ".tmp-"
GONE_PREFIX = ".gone-"


def temporary_name(name: str) -> str:
    """Return a unique name under which the file or folder of that name is written."""
    return f"{TEMPORARY_PREFIX}{name}-{uuid.uuid4().hex[:8]}"


def draft_prefix(pack_name: str, pid: int | None = None) -> str:
    """Return how the names begin under which a process, or any, writes the pack of that name."""
    return f"{TEMPORARY_PREFIX}pack-{pack_name}-" + ("" if pid is None else f"{pid}-")


# --- a checkpoint ---

WEIGHTS = "weights.safetensors"
CONFIG = "config.json"
CLASSES = "classes.json"
PREPROCESSING = "preprocessing.json"
METADATA = "metadata.json"
#: What predictions need.
CHECKPOINT_FILES = (WEIGHTS, CONFIG, CLASSES, PREPROCESSING, METADATA)
#: The folder of what training needs to go on; it may be removed alone.
STATE = "state"
STATE_TENSORS = f"{STATE}/training_state.safetensors"
STATE_JSON = f"{STATE}/training_state.json"
#: Size and sha256 of all others; written last.
MANIFEST = "manifest.json"


class CheckpointKind(StrEnum):
    """Why a checkpoint was made."""

    EPOCH = "epoch"  #: at an epoch's end: has metrics, is published and served
    RECOVERY = "recovery"  #: in mid-epoch, to go on from; gone once a newer one of either kind is committed


@dataclass(frozen=True)
class CheckpointName:
    """The name of a checkpoint's folder: `epoch-00000042-e3`."""

    kind: str  #: a `CheckpointKind`, or one of another version
    step: int  #: optimiser steps done
    lease_epoch: int  #: the fencing token under which it was written; outside of a yard, the number of the run

    def __str__(self) -> str:
        return f"{self.kind}-{self.step:08d}-e{self.lease_epoch}"

    @classmethod
    def parse(cls, name: str) -> Self | None:
        """Parse a folder's name. None: it is not the name of a checkpoint."""
        found = _CHECKPOINT.fullmatch(name)
        return cls(found["kind"], int(found["step"]), int(found["lease_epoch"])) if found else None

    @classmethod
    def parse_temporary(cls, name: str) -> Self | None:
        """Parse the temporary name under which a checkpoint is written. None: it is not such a name."""
        found = _TEMPORARY.fullmatch(name)
        return cls.parse(found["name"]) if found else None


_CHECKPOINT = re.compile(r"(?P<kind>[a-z]+)-(?P<step>[0-9]{8,})-e(?P<lease_epoch>[0-9]{1,18})")
_TEMPORARY = re.compile(rf"{re.escape(TEMPORARY_PREFIX)}(?P<name>.+)-[0-9a-f]+")


def segment_name(first_row: int, lease_epoch: int) -> str:
    """Return the name of a segment of results. It has the form of a checkpoint's, so that it tells its lease, too."""
    return str(CheckpointName("rows", first_row, lease_epoch))


def is_of_state(name: str) -> bool:
    """Whether a file of a checkpoint is part of its training state."""
    return name.startswith(f"{STATE}/")


# --- a pack ---

IMAGES, LABELS, SPLIT = "images.npy", "labels.npy", "split.npy"
PACK_FACTS = "pack.json"  #: written last
PACK_FACTS_OF_DAMAGED = "pack.json.damaged"
PACK_REPORT = "report.json"
FILE_NAMES, FILE_NAME_STARTS = "file_names.jsonl", "file_names.npy"  #: only of a pack that was made from files

# --- a segment of results ---

SEGMENT_ROWS = "rows.ndjson"

# --- an upload ---

UPLOAD_CONTENT = "content"

# --- a run's event files ---

BY_STEP, BY_EPOCH = "steps", "epochs"
EVENT_FILES = "*.tfevents.*"


def event_file_name(attempt: int, moment: float, host: str, pid: int) -> str:
    """Return the name of an attempt's event file. Names sort in the order of the attempts."""
    return f"events-{attempt:06d}.out.tfevents.{moment:.0f}.{host}.{pid}"
