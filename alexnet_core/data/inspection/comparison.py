"""Compares two packs by content: which images were added, removed, relabelled or moved to another split. Torch-free.

Images are the same if their stored pixels are; names of files play no part. An image that is there several times is
counted as often: of three copies that became two, one was removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.content_keys import content_key
from alexnet_core.data.file_names import open_file_names
from alexnet_core.data.inspection.selection import ImagePlace, locate
from alexnet_core.data.pack import SPLITS, Pack

MAX_LISTED = 1000  #: images of each kind

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Contents:
    """What is compared of a pack, or of one that is being made."""

    name: str
    class_names: Sequence[str]
    image_px: int
    channels: int
    keys: Sequence[bytes]  #: the images' `content_key`
    labels: NDArray[np.int64]
    split: NDArray[np.uint8]
    files: Sequence[str | None] | None  #: None: they are not known

    @classmethod
    def of(cls, pack: Pack) -> Contents:
        """Read the contents of a pack: every pixel of it.

        Raises:
            OSError: it can't be read just now.
        """
        return cls(
            name=pack.name,
            class_names=pack.class_names,
            image_px=pack.facts.image_px,
            channels=pack.channels,
            keys=[content_key(pack.images[position]) for position in range(len(pack.labels))],
            labels=pack.labels,
            split=pack.split,
            files=open_file_names(pack.path, len(pack.labels)),
        )

    def describe(self, positions: Indices) -> list[ImagePlace]:
        """Describe the first thousand of some images."""
        shown = positions[:MAX_LISTED].tolist()
        files = [self.files[position] if self.files else None for position in shown]
        return locate(shown, class_names=self.class_names, labels_N=self.labels, split_N=self.split, files=files)


@dataclass(frozen=True)
class ImageChange:
    """An image that is in both packs, in another class or split."""

    before: ImagePlace
    after: ImagePlace


@dataclass(frozen=True)
class PackDiff:
    """What differs between two packs. The lists have the first thousand images each, in the packs' order."""

    parent: str  #: name of the dataset that was compared with
    is_comparable: bool  #: False: their images are stored in other shapes, so no pixels can be equal
    message: str  #: the result as a sentence
    num_unchanged: int = 0
    num_added: int = 0
    num_removed: int = 0
    num_relabelled: int = 0
    num_moved: int = 0  #: to another split, with the same class
    added_classes: list[str] = field(default_factory=list)
    removed_classes: list[str] = field(default_factory=list)
    added: list[ImagePlace] = field(default_factory=list)
    removed: list[ImagePlace] = field(default_factory=list)
    relabelled: list[ImageChange] = field(default_factory=list)
    moved: list[ImageChange] = field(default_factory=list)


def compare(before: Contents, after: Contents) -> PackDiff:
    """Return what was added, removed, relabelled and moved from one pack to another.

    Classes are the same if their names are. An image whose class and split both changed counts as relabelled.
    """
    if (before.image_px, before.channels) != (after.image_px, after.channels):
        return PackDiff(
            before.name,
            is_comparable=False,
            message=f"{before.name} stores its images as {_shape(before)}, this dataset as {_shape(after)}: their "
            f"pixels can't be equal. Make it with images of {before.image_px} px to compare them.",
        )
    content_before, content_after = _number(before.keys, after.keys)
    numbers = {name: number for number, name in enumerate(dict.fromkeys([*before.class_names, *after.class_names]))}
    label_before, label_after = (
        np.array([numbers[name] for name in it.class_names], dtype=np.int64)[it.labels] for it in (before, after)
    )
    place_before, place_after = (
        labels * len(SPLITS) + it.split for labels, it in ((label_before, before), (label_after, after))
    )
    pairs = _Pairs(content_before, content_after)
    num_unchanged = len(pairs.take(place_before, place_after)[0])
    moved = pairs.take(label_before, label_after)
    relabelled = pairs.take(np.zeros_like(label_before), np.zeros_like(label_after))
    counts = (num_unchanged, len(pairs.after), len(pairs.before), len(relabelled[0]), len(moved[0]))
    return PackDiff(
        before.name,
        is_comparable=True,
        message="Compared with {}: {} images unchanged, {} added, {} removed, {} relabelled, {} moved to another "
        "split.".format(before.name, *counts),
        num_unchanged=num_unchanged,
        num_added=len(pairs.after),
        num_removed=len(pairs.before),
        num_relabelled=len(relabelled[0]),
        num_moved=len(moved[0]),
        added_classes=[name for name in after.class_names if name not in set(before.class_names)],
        removed_classes=[name for name in before.class_names if name not in set(after.class_names)],
        added=after.describe(pairs.after),
        removed=before.describe(pairs.before),
        relabelled=_changes(before, after, relabelled),
        moved=_changes(before, after, moved),
    )


class _Pairs:
    """Pairs images of two packs, and remembers those that are left: their positions `before` and `after`."""

    def __init__(self, content_before: Indices, content_after: Indices) -> None:
        self._content = content_before, content_after
        self.before, self.after = (np.arange(len(content)) for content in self._content)

    def take(self, quality_before: Indices, quality_after: Indices) -> tuple[Indices, Indices]:
        """Pair images of one content and one quality that are left, each at most once. Their positions are returned."""
        width = 1 + max((int(it.max()) for it in (quality_before, quality_after) if len(it)), default=0)
        codes_before = (self._content[0] * width + quality_before)[self.before]
        codes_after = (self._content[1] * width + quality_after)[self.after]
        different, inverse = np.unique(np.concatenate([codes_before, codes_after]), return_inverse=True)
        old = _tell_apart(inverse[: len(codes_before)], len(different))
        new = _tell_apart(inverse[len(codes_before) :], len(different))
        _, taken_before, taken_after = np.intersect1d(old, new, assume_unique=True, return_indices=True)
        order = np.argsort(taken_after)
        pairs = self.before[taken_before[order]], self.after[taken_after[order]]
        self.before, self.after = np.delete(self.before, taken_before), np.delete(self.after, taken_after)
        return pairs


def _number(*keys: Sequence[bytes]) -> list[Indices]:
    """Replace keys by numbers that are equal where the keys are."""
    joined = np.array([key for part in keys for key in part], dtype="S16")  # equal lengths, so final NULs don't matter
    inverse = np.unique(joined, return_inverse=True)[1].astype(np.int64)
    return np.split(inverse, np.cumsum([len(part) for part in keys])[:-1])


def _tell_apart(codes: Indices, num_codes: int) -> Indices:
    """Return another code for each time that a code below `num_codes` occurs: the first, the second time and so on."""
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    times = np.empty_like(codes)
    times[order] = np.arange(len(codes)) - np.searchsorted(ordered, ordered)
    apart: Indices = times * num_codes + codes
    return apart


def _changes(before: Contents, after: Contents, pairs: tuple[Indices, Indices]) -> list[ImageChange]:
    described = zip(before.describe(pairs[0]), after.describe(pairs[1]), strict=True)
    return [ImageChange(old, new) for old, new in described]


def _shape(contents: Contents) -> str:
    return f"{'grey' if contents.channels == 1 else 'coloured'} squares of {contents.image_px} px"
