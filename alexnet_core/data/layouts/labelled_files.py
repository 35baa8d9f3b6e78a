"""Defines the result of recognising a layout: image files with their classes and splits. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file that should be an image, with its split and class."""

    path: str  #: as it was given
    label: int
    split: int | None  #: TRAIN, VALIDATION or TEST; None where the tree has no splits


@dataclass(frozen=True)
class Rejection:
    """A file that is not used, and why."""

    file: str
    code: str  #: of the error, as `image_unreadable`
    reason: str


@dataclass(frozen=True)
class LabelledFiles:
    """The splits, classes and files found in a folder or archive."""

    class_names: tuple[str, ...]  #: sorted, or in the order of the labels where they are numbers
    files: tuple[LabelledFile, ...]  #: by split, class and path
    outside: tuple[str, ...] = ()  #: files that no class was found for
    empty: tuple[str, ...] = ()  #: class folders without a file
    num_junk: int = 0  #: ignored files
    kind: str = "class_folders"  #: how the classes were found: `manifest`, `imagenet`, `cifar10`, `cifar100`, `idx`
    rejected: tuple[Rejection, ...] = ()  #: what a manifest names and can't be used
    notes: tuple[str, ...] = ()  #: what was assumed, as sentences
