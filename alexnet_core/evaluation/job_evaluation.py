"""What is known of a job's best checkpoint after its end: how it does on the test images, and which labels are likely
wrong. Torch-free.

The trainer appends it to a file of JSON lines, so that a store can follow the file as it follows a log. Each line is a
`Record`. A file whose last record is `begun` belongs to an attempt that was lost in the middle of it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from alexnet_core.evaluation.scores import Guess

MAX_BYTES = 32 * 2**20  # of a record that is read
MAX_MATRIX_CLASSES = 100  # with more, only the pairs that were confused most often are kept

_FROZEN = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True, ser_json_inf_nan="null")


class ClassResult(BaseModel):
    """How well the network recognises one class."""

    model_config = _FROZEN

    label: str
    """The class."""
    count: int
    """Test images of this class."""
    predicted: int
    """Test images that were taken for it."""
    precision: float | None
    """Share of `predicted` that are of this class. Null: nothing was taken for it."""
    recall: float | None
    """Share of `count` that were taken for it. Null: there is no test image of it."""
    f1: float | None
    """Harmonic mean of precision and recall. Null: neither of them is known."""


class ConfusedPair(BaseModel):
    """How often one class was taken for another."""

    model_config = _FROZEN

    true: str
    """The class that the images are of."""
    predicted: str
    """The class that they were taken for."""
    count: int
    """Images."""


class NamedImage(BaseModel):
    """An image of the dataset, and where it is."""

    model_config = _FROZEN

    split: Literal["train", "validation", "test"]
    """The split that it is in."""
    index: int
    """Its place in the split, from 0, as in `GET /datasets/{dataset_id}/images/{split}/{index}`."""
    position: int
    """Its place in the whole dataset, from 0."""
    file: str | None
    """The file that it was read from. Null: the dataset does not know."""
    label: str
    """The class that the dataset gives it."""


class HardestImage(NamedImage):
    """A test image whose true class got a low probability."""

    loss: float | None
    """-ln of the true class's probability. Null: it is no number."""
    predictions: list[Guess]
    """The most probable classes, best first."""


class WrongLabel(NamedImage):
    """An image whose label is likely wrong."""

    suggested: str
    """The class that it more likely belongs to."""
    confidence: float
    """Probability of the suggested class minus that of the label, 0 to 1."""


class ClassLabels(BaseModel):
    """How many labels of a class were checked, and how many are likely wrong."""

    model_config = _FROZEN

    label: str
    """The class."""
    num_checked: int
    """Images with this label that were checked."""
    num_found: int
    """Those of them whose label is likely wrong."""
    num_suggested: int
    """Images with other labels that more likely belong to this class."""


class LabelErrors(BaseModel):
    """Training images whose label is likely wrong."""

    model_config = _FROZEN

    method: str
    """How they were found."""
    num_images: int
    """Training images."""
    num_checked: int
    """Those of them that were checked."""
    left_out: str | None
    """Why others were not checked. Null: all were."""
    num_found: int
    """Images whose label is likely wrong."""
    seconds: float
    """Time that it took."""
    classes: list[ClassLabels]
    """One a class, in the order of the dataset."""
    images: tuple[WrongLabel, ...]
    """The first thousand, the most certain first."""


class JobEvaluation(BaseModel):
    """The evaluation of a job's best checkpoint."""

    model_config = _FROZEN

    epoch: int | None
    """The epoch whose checkpoint was evaluated."""
    weights_sha256: str
    """Of the weights that were evaluated."""
    chosen_on: Literal["validation", "test", "none"]
    """The split that chose the epoch; `none`: the last epoch counts."""
    validated_on_test: bool
    """Whether the test images chose the epoch, so that other images will do worse."""
    num_images: int
    """Test images. 0: the dataset has none, and the fields down to `hardest` are null or empty."""
    loss: float | None
    """Mean cross-entropy on them. Null: there are none, or it is no number."""
    top1: float | None
    """Share of them whose most probable class is the true one."""
    top5: float | None
    """Share of them whose true class is among the five most probable."""
    classes: list[ClassResult]
    """One a class. Empty: no test images, or more than 1,000 classes."""
    confusion: list[list[int]] | None
    """Test images by true class (row) and predicted class (column). Null: more than 100 classes, or no test images."""
    confused: list[ConfusedPair]
    """The pairs of classes that were confused most often, the most frequent first; at most 100."""
    hardest: tuple[HardestImage, ...]
    """The test images with the highest loss, highest first."""
    label_errors: LabelErrors | None
    """Training images whose label is likely wrong. Null: they were not looked for; `label_errors_missing` says why."""
    label_errors_missing: str | None = None
    """Why `label_errors` is null."""


class Record(BaseModel):
    """A line of the file."""

    model_config = _FROZEN

    state: Literal["begun", "stopped", "done"]
    """`begun`: an attempt began with it. `stopped`: it was told to stop. `done`: here it is."""
    lease_epoch: int
    """Of the attempt."""
    evaluation: JobEvaluation | None = None
    """Only of a record that is `done`."""


def append_record(path: Path, record: Record) -> None:
    """Append a record, in one write, to a file that need not be there yet.

    Raises:
        OSError: as from any file that is written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    with open(descriptor, "ab", buffering=0) as file:
        line = memoryview(record.model_dump_json().encode() + b"\n")
        while line:
            line = line[file.write(line) :]
        os.fsync(file.fileno())


def parse_last_record(lines: bytes) -> Record | None:
    """Parse the last line of a file. None: the file is empty, or the line is none that this version knows."""
    last = lines.rstrip(b"\n").rpartition(b"\n")[2]
    try:
        return Record.model_validate_json(last) if last else None
    except ValidationError:
        return None


def was_cut_off(lines: bytes) -> bool:
    """Whether the last attempt that began to write was lost before it came to an end."""
    record = parse_last_record(lines)
    return bool(lines) and (record is None or record.state == "begun")
