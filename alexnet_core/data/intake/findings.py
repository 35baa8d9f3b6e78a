"""Defines the findings in a dataset's report: what was found, and what to do about it. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class FindingCode(StrEnum):
    """The kind of a finding, for programs."""

    EMPTY_CLASSES = "empty_classes"  #: class folders without a file
    OUTSIDE_CLASSES = "outside_classes"  #: files that have no class
    REJECTED_FILES = "rejected_files"  #: files that are no usable images
    ENLARGED_IMAGES = "enlarged_images"  #: images that are smaller than what is stored
    NEARLY_EMPTY_CLASSES = "nearly_empty_classes"  #: classes with too few images to train on
    IMBALANCE = "imbalance"  #: classes of very different size
    CLASS_NAMES_SIMILAR = "class_names_similar"  #: names that may mean one class
    COPIES = "copies"  #: the same image again
    DUPLICATES_ACROSS_SPLITS = "duplicates_across_splits"  #: the same image to train and to test on
    DUPLICATES_ACROSS_CLASSES = "duplicates_across_classes"  #: the same image with two labels
    NEAR_DUPLICATES = "near_duplicates"  #: nearly the same images in one class and split
    NEAR_DUPLICATES_ACROSS_SPLITS = "near_duplicates_across_splits"  #: nearly the same image to train and to test on
    NEAR_DUPLICATES_ACROSS_CLASSES = "near_duplicates_across_classes"  #: nearly the same image with two labels


@dataclass(frozen=True)
class Finding:
    """A fact about the images that their owner should know."""

    code: FindingCode
    message: str  #: what was found
    advice: str  #: what to do about it: a sentence


def some(names: Sequence[str]) -> str:
    """Return the first five of some names, and the number of the others."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
