"""Selects images of a pack by split and class, in one fixed order, and describes each. Torch-free."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.file_names import open_file_names
from alexnet_core.data.pack import SPLITS, Pack


@dataclass(frozen=True)
class ImagePlace:
    """The place of an image in a pack."""

    split: str  #: `train`, `validation` or `test`
    index: int  #: among the images of its split, from 0
    position: int  #: among all images of the pack, from 0
    label: str  #: the name of its class
    file: str | None  #: the file that it was read from; None: the pack does not know


def select(pack: Pack, *, split: str | None = None, label: int | None = None) -> NDArray[np.int64]:
    """Return the positions of images in the pack: by split (training images first), then in the pack's order.

    Args:
        pack: the pack.
        split: only this one; None: all.
        label: only this class; None: all.
    """
    is_of_class = np.ones(len(pack.labels), dtype=np.bool_) if label is None else pack.labels == label
    parts = [
        np.flatnonzero((pack.split == value) & is_of_class) for name, value in SPLITS.items() if split in {None, name}
    ]
    return np.concatenate(parts).astype(np.int64)


def skip_until_after(pack: Pack, positions: NDArray[np.int64], last: int) -> NDArray[np.int64]:
    """Return those of selected positions that come after an image, which need not be among them.

    Args:
        pack: the pack.
        positions: as `select` returns them.
        last: position of the image.
    """
    place = pack.split[positions].astype(np.int64) * len(pack.labels) + positions
    return positions[np.searchsorted(place, int(pack.split[last]) * len(pack.labels) + last, side="right") :]


def find_position(pack: Pack, split: str, index: int) -> int | None:
    """Return the position in the pack of the image with an index in a split. None: there is no such image."""
    positions = pack.list_indices(split)
    return int(positions[index]) if 0 <= index < len(positions) else None


def find_label(pack: Pack, class_name: str) -> int | None:
    """Return the label of a class, whose name may be composed or decomposed (NFC, NFD). None: there is none."""
    for name in (class_name, unicodedata.normalize("NFC", class_name)):
        if name in pack.class_names:
            return pack.class_names.index(name)
    return None


def describe(pack: Pack, positions: Sequence[int] | NDArray[np.int64]) -> list[ImagePlace]:
    """Describe images of a pack by their positions.

    Raises:
        OSError: the names of their files can't be read just now.
    """
    names = open_file_names(pack.path, len(pack.labels))
    shown = [int(position) for position in positions]
    files = [None] * len(shown) if names is None else names.read(shown)
    return locate(shown, class_names=pack.class_names, labels_N=pack.labels, split_N=pack.split, files=files)


def locate(
    positions: Sequence[int],
    *,
    class_names: Sequence[str],
    labels_N: NDArray[np.int64],
    split_N: NDArray[np.uint8],
    files: Sequence[str | None],
) -> list[ImagePlace]:
    """Describe images by the arrays of their pack. `files` has one entry for each position."""
    split_names = {value: name for name, value in SPLITS.items()}
    of_split = {value: np.flatnonzero(split_N == value) for value in SPLITS.values()}
    places = []
    for position, file in zip(positions, files, strict=True):
        split = int(split_N[position])
        index = int(np.searchsorted(of_split[split], position))
        places.append(ImagePlace(split_names[split], index, position, class_names[labels_N[position]], file))
    return places


def count_by_class(pack: Pack) -> NDArray[np.int64]:
    """Return the number of images of each class in each split, (K, 3): train, validation, test."""
    counts = np.zeros((len(pack.class_names), len(SPLITS)), dtype=np.int64)
    np.add.at(counts, (pack.labels, pack.split), 1)
    return counts
