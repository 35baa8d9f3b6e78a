"""Images in a fixed order, each with what is known of it: those of a pack, or of an archive. Torch-free.

The order never changes, so a prediction that was interrupted goes on at any row.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.file_names import open_file_names, show_name
from alexnet_core.data.image_readers import FileImages, ImageReader
from alexnet_core.data.layouts.folders import is_junk
from alexnet_core.data.layouts.recognition import recognise
from alexnet_core.data.pack import SPLITS, Pack
from alexnet_core.data.sources import Source
from alexnet_core.errors import DatasetInvalid, ImageError, ImageUnreadable

#: Files with these endings describe images and are none. Any other file that can't be read is a row with an error.
NOT_IMAGES = frozenset(
    {".csv", ".tsv", ".txt", ".md", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml", ".html", ".pdf", ".parquet",
     ".mat", ".npy", ".npz", ".py", ".sh"}
)  # fmt: skip
_NO_LABEL, _NO_SPLIT = -1, 255
_SPLIT_NAMES = {number: name for name, number in SPLITS.items()}


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of an image before it is looked at."""

    file: str | None  #: its path in the folder or archive that it came from
    split: str | None
    index: int | None  #: its place in its pack
    label: str | None  #: its class


class ImageList(Protocol):
    """Images with a number each, from 0. Several threads may read them at the same time."""

    def __len__(self) -> int: ...

    def describe(self, rows: range) -> list[ImageFacts]:
        """Return what is known of some images."""
        ...

    def read(self, row: int) -> NDArray[np.uint8]:
        """Return the pixels of an image, (H, W, C).

        Raises:
            ImageError: it can't be used.
            OSError: the disk fails.
        """
        ...


class PackImages:
    """The images of a pack, or of one of its splits, in the pack's order."""

    def __init__(self, pack: Pack, split: str | None) -> None:
        self._pack = pack
        self._indices = np.arange(len(pack.labels)) if split is None else pack.list_indices(split)
        self._names = open_file_names(pack.path, len(pack.labels))

    def __len__(self) -> int:
        return len(self._indices)

    def describe(self, rows: range) -> list[ImageFacts]:
        """See `ImageList`."""
        indices = [int(index) for index in self._indices[rows.start : rows.stop]]
        names = [None] * len(indices) if self._names is None else self._names.read(indices)
        return [
            ImageFacts(
                file=name,
                split=_SPLIT_NAMES[int(self._pack.split[index])],
                index=index,
                label=self._pack.class_names[int(self._pack.labels[index])],
            )
            for index, name in zip(indices, names, strict=True)
        ]

    def read(self, row: int) -> NDArray[np.uint8]:
        """See `ImageList`."""
        return np.ascontiguousarray(self._pack.images[self._indices[row]])


class ArchiveImages:
    """The images of an archive, in its order.

    Where the archive has the form of a dataset (see `layouts.recognition`), the class of an image is known if it is
    one of the network's. A folder of another name is not taken for a class.

    Args:
        source: the open archive.
        images: reads files of it.
        class_names: of the network.
    """

    def __init__(self, source: Source, images: FileImages, class_names: Sequence[str]) -> None:
        self._class_names = tuple(class_names)
        self._images: ImageReader = images
        self._paths: Sequence[str] = [path for path in source.paths if _may_be_an_image(path)]
        self._labels: NDArray[np.int32] = np.full(len(self._paths), _NO_LABEL, np.int32)
        self._splits: NDArray[np.uint8] = np.full(len(self._paths), _NO_SPLIT, np.uint8)
        with suppress(DatasetInvalid):  # no dataset, or one that contradicts itself: then no class is known
            self._read_labels(source)

    def _read_labels(self, source: Source) -> None:
        found = recognise(source)
        files = found.files.files
        if found.arrays is not None:
            self._images, self._paths = found.arrays, [file.path for file in files]
            self._labels = np.full(len(files), _NO_LABEL, np.int32)
            self._splits = np.full(len(files), _NO_SPLIT, np.uint8)
        known = {name: index for index, name in enumerate(self._class_names)}
        labels = [known.get(name, _NO_LABEL) for name in found.files.class_names]
        places = {path: row for row, path in enumerate(self._paths)}
        for file in files:
            row = places.get(file.path)
            if row is not None:
                self._labels[row] = labels[file.label]
                self._splits[row] = _NO_SPLIT if file.split is None else file.split

    def __len__(self) -> int:
        return len(self._paths)

    def describe(self, rows: range) -> list[ImageFacts]:
        """See `ImageList`."""
        return [
            ImageFacts(
                file=show_name(self._paths[row]),
                split=_SPLIT_NAMES.get(int(self._splits[row])),
                index=None,
                label=None if self._labels[row] == _NO_LABEL else self._class_names[self._labels[row]],
            )
            for row in rows
        ]

    def read(self, row: int) -> NDArray[np.uint8]:
        """See `ImageList`."""
        try:
            return self._images.read_image(self._paths[row])
        except (FileNotFoundError, PermissionError) as exc:
            raise ImageUnreadable(f"It can't be opened: {exc.strerror}.") from exc


def read_or_explain(images: ImageList, row: int) -> NDArray[np.uint8] | ImageError:
    """Return the pixels of an image, or why there are none."""
    try:
        return images.read(row)
    except ImageError as exc:
        return exc


def _may_be_an_image(path: str) -> bool:
    if path.endswith("/"):
        return False
    parts = PurePosixPath(path)
    return not is_junk(parts.parts) and parts.suffix.casefold() not in NOT_IMAGES
