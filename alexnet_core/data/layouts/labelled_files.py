"""Defines the result of recognising a layout: image files with their classes and splits. Torch-free."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self, overload

from alexnet_core.data.pack import TRAIN


@dataclass(frozen=True, slots=True)
class LabelledFile:
    """A file that should be an image, with its split and class."""

    path: str  #: as it was given
    label: int
    split: int | None  #: TRAIN, VALIDATION or TEST; None where the tree has no splits


class FileTable(Sequence[LabelledFile]):
    """Many labelled files, in columns: an object for each would take five times as much memory as its label and split.

    It grows at its end. What is taken out of it is made anew each time.
    """

    def __init__(self) -> None:
        self._paths: list[str] = []
        self._labels = array("i")
        self._splits = array("b")  # -1: none

    @classmethod
    def ordered(cls, places: Iterable[tuple[int | None, int, str]]) -> Self:
        """Make a table of files, each given with split, label and path, in this order; no split is like TRAIN."""
        of_place: dict[tuple[int, int], dict[int | None, list[str]]] = {}
        for split, label, path in places:
            of_place.setdefault((split or TRAIN, label), {}).setdefault(split, []).append(path)
        table = cls()
        for place in sorted(of_place):
            by_split = of_place.pop(place)
            if len(by_split) == 1:
                [(split, paths)] = by_split.items()
                paths.sort()
                table.extend(paths, place[1], split)
            else:
                for path, split in sorted((path, split) for split, paths in by_split.items() for path in paths):
                    table.extend([path], place[1], split)
        return table

    def extend(self, paths: Sequence[str], label: int, split: int | None) -> None:
        """Add files of one class and split."""
        self._paths += paths
        self._labels.extend(array("i", [label]) * len(paths))
        self._splits.extend(array("b", [-1 if split is None else split]) * len(paths))

    def __len__(self) -> int:
        return len(self._paths)

    @overload
    def __getitem__(self, position: int) -> LabelledFile: ...

    @overload
    def __getitem__(self, position: slice) -> list[LabelledFile]: ...

    def __getitem__(self, position: int | slice) -> LabelledFile | list[LabelledFile]:
        if isinstance(position, slice):
            return [self[at] for at in range(*position.indices(len(self)))]
        split = self._splits[position]
        return LabelledFile(self._paths[position], self._labels[position], None if split < 0 else split)

    def __iter__(self) -> Iterator[LabelledFile]:
        return (self[at] for at in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and all(map(_are_equal, self, other))

    __hash__ = None  # type: ignore[assignment]


def _are_equal(one: object, other: object) -> bool:
    return one == other


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
    files: Sequence[LabelledFile]  #: by split, class and path
    outside: tuple[str, ...] = ()  #: files that no class was found for
    empty: tuple[str, ...] = ()  #: class folders without a file
    num_junk: int = 0  #: ignored files
    kind: str = "class_folders"  #: how the classes were found: `manifest`, `imagenet`, `cifar10`, `cifar100`, `idx`
    rejected: tuple[Rejection, ...] = ()  #: what a manifest names and can't be used
    notes: tuple[str, ...] = ()  #: what was assumed, as sentences
