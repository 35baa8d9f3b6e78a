"""The messages between a worker and the child that predicts many images: one in a line. Torch-free."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from alexnet_core.messages import Message, parse_line


class PredictPhase(StrEnum):
    """What the child does."""

    READING = "reading"  #: it unpacks a compressed archive
    CHECKING = "checking"  #: it compares a pack with its digest
    PREDICTING = "predicting"  #: it decodes images and computes their classes


class PredictSpec(Message):
    """Predict these images, from a row on."""

    type: Literal["predict"] = "predict"
    pack: Path | None = None
    """A pack's folder; None: the images are in an archive."""
    pack_digest: str | None = None
    """The content that the pack must have."""
    archive: Path | None = None
    """An archive of images; None: they are in a pack."""
    split: str | None = None
    """Only images of this split of a pack; None: all."""
    max_entries: int
    """Members of an archive."""
    max_unpacked_bytes: int
    """Bytes of all members of an archive."""
    max_pixels: int
    """Of one image."""
    checkpoint: Path
    """The folder of the checkpoint to predict with."""
    top_k: int
    """Classes that are named for each image, if there are so many."""
    temperature: float = 1.0
    """By which logits are divided before the probabilities are computed."""
    first_row: int = 0
    """The rows before this one are stored already."""
    target: Path
    """The folder that segments are written into."""
    lease_epoch: int
    """Part of a segment's name."""
    segment_rows: int
    """Rows of a segment, at most."""
    segment_s: float
    """Seconds after which a segment ends, however few rows it has."""
    threads: int
    """CPU threads of the network, and of the decoders."""
    memory_bytes: int
    """What the child may allocate."""
    file_bytes: int
    """The largest file that the child may write."""
    failpoints: dict[str, str] = Field(default_factory=dict)
    """For tests: what is to fail where."""


class SegmentStored(Message):
    """To the child: the last segment is in the store, so that the next one may be reported."""

    type: Literal["stored"] = "stored"


class PredictProgress(Message):
    """The child is so far."""

    type: Literal["progress"] = "progress"
    phase: PredictPhase
    done: int
    total: int
    """Bytes while an archive is read, else images."""


class Counts(Message):
    """What is counted of some rows."""

    type: Literal["counts"] = "counts"
    num_rows: int = 0
    num_errors: int = 0
    """Images that can't be read."""
    num_labelled: int = 0
    """Images that were read, and whose class is known and one of the network's."""
    hits1: int = 0
    """Of these, those whose class is the most probable one."""
    hits5: int = 0
    """Of these, those whose class is among the five most probable ones."""


class SegmentWritten(Message):
    """Rows are on the disk, in a folder of the target."""

    type: Literal["segment"] = "segment"
    name: str
    """Of the folder."""
    first_row: int
    counts: Counts
    size_bytes: int
    sha256: str
    """Of its file."""


class PredictDone(Message):
    """Every image has its row."""

    type: Literal["done"] = "done"
    num_rows: int
    """Of all images, those before `first_row` included."""


class PredictFailed(Message):
    """The child could not go on."""

    type: Literal["failed"] = "failed"
    code: str
    message: str


PredictReport = PredictProgress | SegmentWritten | PredictDone | PredictFailed
_REPORTS: TypeAdapter[PredictReport] = TypeAdapter(Annotated[PredictReport, Field(discriminator="type")])
_SPEC: TypeAdapter[PredictSpec] = TypeAdapter(PredictSpec)


def parse_predict_spec(line: bytes) -> PredictSpec:
    """Parse the first line to the child.

    Raises:
        MalformedMessage: it is no spec.
    """
    return parse_line(_SPEC, line)


def parse_predict_report(line: bytes) -> PredictReport:
    """Parse a line from the child.

    Raises:
        MalformedMessage: it is no report.
    """
    return parse_line(_REPORTS, line)
