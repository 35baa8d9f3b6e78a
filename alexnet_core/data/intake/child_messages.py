"""The messages between a worker and the child that takes in a dataset: one in a line. Torch-free."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from alexnet_core.messages import Message, parse_line

#: The code of a failure: the limits of `IntakeSpec` do not suffice.
DATASET_TOO_COSTLY = "dataset_too_costly"


class IntakePhase(StrEnum):
    """What the child does."""

    READING = "reading"  #: it unpacks a compressed archive
    CHECKING = "checking"  #: it reads the headers of all files
    PACKING = "packing"  #: it decodes the images and stores them


class IntakeSpec(Message):
    """Make the pack of these images."""

    type: Literal["intake"] = "intake"
    source: Path
    """A folder or an archive."""
    target: Path
    """The pack's folder."""
    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    """Fields of `IntakeOptions`, but for those that are here."""
    max_entries: int
    """Members of an archive."""
    max_unpacked_bytes: int
    """Bytes of all members of an archive."""
    max_pixels: int
    """Of one image."""
    parent_pack: Path | None = None
    """The pack of an earlier version, to compare with."""
    memory_bytes: int
    """What the child may allocate."""
    cpu_s: int
    """Seconds of CPU time that the child may take."""
    file_bytes: int
    """The largest file that the child may write."""
    failpoints: dict[str, str] = Field(default_factory=dict)
    """For tests: what is to fail where."""


class IntakeProgress(Message):
    """The child is so far."""

    type: Literal["progress"] = "progress"
    phase: IntakePhase
    done: int
    total: int
    """Bytes of the archive while it is read, else files."""


class IntakeDone(Message):
    """The pack is made."""

    type: Literal["done"] = "done"
    pack: dict[str, Any]
    """The content of `pack.json`."""
    report: dict[str, Any]


class IntakeFailed(Message):
    """There is no pack."""

    type: Literal["failed"] = "failed"
    code: str
    message: str
    problem: str | None = None
    """What is wrong with the dataset, for programs."""
    report: dict[str, Any] | None = None
    """What was found until then."""


IntakeReport = IntakeProgress | IntakeDone | IntakeFailed
_REPORTS: TypeAdapter[IntakeReport] = TypeAdapter(Annotated[IntakeReport, Field(discriminator="type")])
_SPEC: TypeAdapter[IntakeSpec] = TypeAdapter(IntakeSpec)


def parse_intake_spec(line: bytes) -> IntakeSpec:
    """Parse the line to the child.

    Raises:
        MalformedMessage: it is no spec.
    """
    return parse_line(_SPEC, line)


def parse_intake_report(line: bytes) -> IntakeReport:
    """Parse a line from the child.

    Raises:
        MalformedMessage: it is no report.
    """
    return parse_line(_REPORTS, line)
