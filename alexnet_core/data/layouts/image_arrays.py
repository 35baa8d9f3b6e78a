"""Finds images that are in arrays instead of image files: CIFAR's batches, and pairs of IDX files. Torch-free."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.image_readers import ArrayImages
from alexnet_core.data.layouts.folders import is_junk, split_path
from alexnet_core.data.layouts.labelled_files import LabelledFile, LabelledFiles
from alexnet_core.data.layouts.split_words import find_split
from alexnet_core.data.pack import TEST, TRAIN
from alexnet_core.data.published.cifar import (
    CIFAR10_CLASSES,
    CIFAR100_CLASSES,
    MAX_FILE_BYTES,
    name_batches,
    read_batches,
)
from alexnet_core.data.published.idx import read_idx_file
from alexnet_core.data.sources import Source, read_whole
from alexnet_core.errors import DatasetInvalid, DatasetUnavailable, ImageError

MAX_IDX_BYTES = 1 << 30  #: of all arrays together; they are in memory until the pack is made
_IDX_IMAGES = re.compile(r"(?P<prefix>.*?)images?[-._]idx(?P<dimensions>[34])[-._]ubyte(\.gz)?", re.IGNORECASE)
_IDX_LABELS = re.compile(r"(?P<prefix>.*?)labels?[-._]idx1[-._]ubyte(\.gz)?", re.IGNORECASE)
_PUBLISHED_TEST = "t10k"  # the word for the test split in MNIST's names

Found = tuple[LabelledFiles, ArrayImages]
Folders = dict[str, dict[str, str]]  # path by name by folder


@dataclass(frozen=True)
class _Pair:
    """A file of images and the file of their labels."""

    images: str
    labels: str
    dimensions: int  #: of the array of images
    split: int | None


def read_arrays(source: Source) -> Found | None:
    """Read the images of CIFAR-10, CIFAR-100 or pairs of IDX files. None: there are none.

    Raises:
        DatasetInvalid: the files are damaged or incomplete, or there are several datasets.
    """
    folders: Folders = defaultdict(dict)
    for path in source.paths:
        if not path.endswith("/") and not is_junk(parts := split_path(path)):
            folders["/".join(parts[:-1])][parts[-1]] = path
    try:
        return _read_cifar(source, folders) or _read_idx(source, folders)
    except (DatasetUnavailable, ImageError) as exc:
        raise DatasetInvalid(f"The dataset can't be used: {exc}", problem="arrays_damaged") from exc


def _read_cifar(source: Source, folders: Folders) -> Found | None:
    for folder, files in folders.items():
        if (named := name_batches(files)) is None:
            continue
        num_classes, names = named
        there = [name for name in names if name in files]
        contents = ((name, read_whole(source, files[name], MAX_FILE_BYTES)) for name in there)
        images = read_batches(contents, num_classes=num_classes, source=folder or "the folder")
        splits = [TRAIN] * images.num_train + [TEST] * images.num_test
        rows = {f"{folder or 'image'}#{number}": row for number, row in enumerate(images.images)}
        layout = LabelledFiles(
            tuple(CIFAR10_CLASSES if num_classes == 10 else CIFAR100_CLASSES),
            tuple(map(LabelledFile, rows, images.labels.tolist(), splits)),
            outside=_list_others(folders, {files[name] for name in there}),
            kind=f"cifar{num_classes}",
            notes=(f"images are those of CIFAR-{num_classes} in {', '.join(there)}",),
        )
        return layout, ArrayImages(rows)
    return None


def _read_idx(source: Source, folders: Folders) -> Found | None:
    pairs = list(_list_pairs(folders))
    if not pairs:
        return None
    _require_one_dataset(pairs)
    rows: dict[str, NDArray[np.uint8]] = {}
    labels: list[int] = []
    splits: list[int | None] = []
    left = MAX_IDX_BYTES
    for pair in pairs:
        images_NHWC, labels_N = _read_pair(source, pair, left)
        left -= images_NHWC.nbytes + labels_N.nbytes
        rows |= {f"{pair.images}#{number}": row for number, row in enumerate(images_NHWC)}
        labels += labels_N.tolist()
        splits += [pair.split] * len(labels_N)
    values = sorted(set(labels))
    places = {value: place for place, value in enumerate(values)}
    layout = LabelledFiles(
        tuple(map(str, values)),
        tuple(map(LabelledFile, rows, (places[label] for label in labels), splits)),
        outside=_list_others(folders, {path for pair in pairs for path in (pair.images, pair.labels)}),
        kind="idx",
        notes=tuple(f"images are in {pair.images!r}, their labels in {pair.labels!r}" for pair in pairs),
    )
    return layout, ArrayImages(rows)


def _read_pair(source: Source, pair: _Pair, most_bytes: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read images, (N, H, W, C), and their labels, (N,)."""
    images = _read_file(source, pair.images, pair.dimensions, most_bytes)
    labels_N = _read_file(source, pair.labels, 1, most_bytes)
    images_NHWC = images[..., None] if images.ndim == 3 else images
    if len(images) != len(labels_N) or min(images_NHWC.shape[1:]) < 1 or images_NHWC.shape[3] not in (1, 3):
        raise DatasetUnavailable(f"{pair.images} and {pair.labels} don't fit each other. Fetch them again.")
    return images_NHWC, labels_N


def _require_one_dataset(pairs: list[_Pair]) -> None:
    """Refuse two pairs for the same split."""
    of_split: dict[int | None, _Pair] = {}
    for pair in pairs:
        if (other := of_split.setdefault(pair.split, pair)) is not pair:
            raise DatasetInvalid(
                f"There are several datasets: {other.images!a:.120} and {pair.images!a:.120} are of the same split. "
                "Keep the files of one.",
                problem="layout_unclear",
            )


def _list_others(folders: Folders, used: set[str]) -> tuple[str, ...]:
    return tuple(sorted(path for files in folders.values() for path in files.values() if path not in used))


def _list_pairs(folders: Folders) -> Iterator[_Pair]:
    """List the files of images whose labels are beside them. A file may be there a second time, as .gz."""
    for files in folders.values():
        named = [(_IDX_LABELS.fullmatch(name), path) for name, path in sorted(files.items())]
        labels = {found["prefix"].casefold(): path for found, path in named if found}
        for name, path in sorted(files.items()):
            found = _IDX_IMAGES.fullmatch(name)
            if found is not None and (of_labels := labels.pop(found["prefix"].casefold(), None)) is not None:
                words = [TEST if word == _PUBLISHED_TEST else find_split(word) for word in _split(found["prefix"])]
                split = next((word for word in words if word is not None), None)
                yield _Pair(path, of_labels, int(found["dimensions"]), split)


def _split(prefix: str) -> list[str]:
    return re.split(r"[-._ ]", prefix.casefold())


def _read_file(source: Source, path: str, dimensions: int, most_bytes: int) -> NDArray[np.uint8]:
    data = read_whole(source, path, most_bytes)
    return read_idx_file(io.BytesIO(data), path, dimensions=dimensions, size_bytes=len(data), most_bytes=most_bytes)
