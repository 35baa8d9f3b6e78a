"""Defines the report on a dataset, as `report.json` and a refusal carry it. Torch-free."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from alexnet_core.data.file_names import show_name
from alexnet_core.data.inspection.comparison import PackDiff
from alexnet_core.data.intake.findings import Finding
from alexnet_core.data.layouts.labelled_files import Rejection


@dataclass(frozen=True)
class LayoutFound:
    """The layout that was recognised."""

    kind: str  #: `class_folders`, `manifest`, `imagenet`, `cifar10`, `cifar100` or `idx`
    notes: list[str]  #: what was assumed, as sentences


@dataclass(frozen=True)
class Spread:
    """The least, middle and greatest of some numbers."""

    min: int
    median: int
    max: int


@dataclass(frozen=True)
class Sizes:
    """The sizes of the images in pixels, before they were resized."""

    width: Spread
    height: Spread


@dataclass(frozen=True)
class ClassCount:
    """The number of images of a class in each split."""

    name: str
    train: int
    validation: int
    test: int


@dataclass(frozen=True)
class Duplicates:
    """Images whose stored pixels are the same, by their files. The lists have the first thousand groups."""

    num_copies: int  #: images that are there already
    num_across_splits: int  #: groups
    num_across_classes: int  #: groups
    across_splits: list[list[str]]
    across_classes: list[list[str]]


@dataclass(frozen=True)
class NearDuplicateGroups:
    """Images that show nearly the same picture, by their files; the first thousand groups, and twenty of each."""

    is_complete: bool  #: whether all images were compared
    num_groups: int
    num_across_splits: int
    num_across_classes: int
    across_splits: list[list[str]]
    across_classes: list[list[str]]
    within: list[list[str]]  #: in one class and split


@dataclass(frozen=True)
class DatasetReport:
    """What was found in a dataset. A refusal has what was known until then; None and empty stand for the rest."""

    num_files: int
    num_junk: int  #: files that were ignored
    layout: LayoutFound
    outside_classes: list[str]  #: the first thousand files without a class
    empty_classes: list[str]  #: the first thousand folders
    rejected: list[Rejection]  #: the first ten thousand
    num_rejected: int = 0  #: all of them
    image_px: int | None = None  #: side of the stored squares
    channels: int | None = None  #: of the stored images
    made_splits: list[str] = field(default_factory=list)  #: that were not given
    num_images: int | None = None  #: stored
    sizes: Sizes | None = None
    colour_modes: dict[str, int] = field(default_factory=dict)  #: images by Pillow's mode
    formats: dict[str, int] = field(default_factory=dict)  #: images by Pillow's format; none of arrays
    classes: list[ClassCount] = field(default_factory=list)
    duplicates: Duplicates | None = None
    near_duplicates: NearDuplicateGroups | None = None
    diff: PackDiff | None = None  #: from the version before; None: none was named
    warnings: list[str] = field(default_factory=list)  #: the findings' messages
    findings: list[Finding] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Return the report for JSON. File names that are not UTF-8 are shown with their bytes escaped."""
        shown: dict[str, Any] = _show(asdict(self))
        return shown


def _show(value: Any) -> Any:
    """Replace what is no character in all texts within a value."""
    if isinstance(value, str):
        return show_name(value)
    if isinstance(value, list):
        return [_show(item) for item in value]
    if isinstance(value, dict):
        return {name: _show(item) for name, item in value.items()}
    return value
