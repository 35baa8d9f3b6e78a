"""A strict reader of the IDX files in which MNIST and similar datasets are published (yann.lecun.com/exdb/mnist)."""

from __future__ import annotations

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.published.labelled import LabelledImages
from alexnet_core.errors import DatasetUnavailable

_MAX_DEFLATE_RATIO = 1032  # no deflate stream expands by more (zlib's technical notes)
_GZIP_MAGIC = b"\x1f\x8b"
_UINT8 = 0x08
_PARTS = ("train", "t10k")


def find_mnist(folder: Path, *places: str) -> Path | None:
    """Return the first folder with files in MNIST's layout: `folder` itself or one of the places below it."""
    folders = (folder, *(folder / place for place in places))
    return next((it for it in folders if any(_find(it, f"{part}-images-idx3-ubyte") for part in _PARTS)), None)


def read_mnist(folder: Path, *, num_classes: int = 10, image_px: int = 28) -> LabelledImages:
    """Read the four files of MNIST's layout: `train` and `t10k`, images and labels, each plain or gzipped.

    Raises:
        DatasetUnavailable: one is missing or damaged, or they don't fit each other.
    """
    parts = [
        (_require(folder, f"{part}-images-idx3-ubyte", 3), _require(folder, f"{part}-labels-idx1-ubyte", 1))
        for part in _PARTS
    ]
    for images, labels in parts:
        fitting = len(images) == len(labels) > 0 and images.shape[1:] == (image_px, image_px)
        if not fitting or labels.max() >= num_classes:
            raise DatasetUnavailable(f"The files in {folder} don't fit each other. Fetch them again.")
    all_images = np.concatenate([images for images, _ in parts])[..., None]
    all_labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
    return LabelledImages(all_images, all_labels, len(parts[1][1]))


def read_idx(path: Path, *, dimensions: int) -> NDArray[np.uint8]:
    """Read the array of bytes in an IDX file, plain or gzipped.

    If a header announces more than the file can hold, it is refused before any memory is allocated for it.

    Args:
        path: the file.
        dimensions: 1 for labels, 3 for images.

    Raises:
        DatasetUnavailable: the file is missing, damaged or not what was expected.
    """
    try:
        with path.open("rb") as raw:
            return read_idx_file(raw, path, dimensions=dimensions, size_bytes=path.stat().st_size)
    except OSError as exc:
        raise DatasetUnavailable(f"{path} can't be read ({exc}). Fetch the file again.") from exc


def read_idx_file(
    raw: IO[bytes], path: object, *, dimensions: int, size_bytes: int, most_bytes: int | None = None
) -> NDArray[np.uint8]:
    """Read the array of bytes in an open IDX file, plain or gzipped; see `read_idx`.

    Args:
        raw: the file, seekable.
        path: of the file, for messages.
        dimensions: 1 for labels, 3 for grey images, 4 for images with channels.
        size_bytes: of the file.
        most_bytes: of the array. None: as many as the file can hold.

    Raises:
        DatasetUnavailable: the file is damaged, too large or not what was expected.
    """
    try:
        zipped = raw.read(2) == _GZIP_MAGIC
        raw.seek(0)
        most = size_bytes * (_MAX_DEFLATE_RATIO if zipped else 1)
        most = most if most_bytes is None else min(most, most_bytes)
        if not zipped:
            return _read(raw, path, dimensions, most)
        with gzip.GzipFile(fileobj=raw) as file:
            return _read(cast(IO[bytes], file), path, dimensions, most)
    except (OSError, EOFError, zlib.error) as exc:
        raise DatasetUnavailable(f"{path} can't be read ({exc}). Fetch the file again.") from exc


def _read(file: IO[bytes], path: object, dimensions: int, most_bytes: int) -> NDArray[np.uint8]:
    magic = file.read(4)
    if magic != bytes((0, 0, _UINT8, dimensions)):
        raise DatasetUnavailable(
            f"{path} is not an IDX file of bytes in {dimensions} dimensions: it begins with {magic.hex()!r}."
        )
    header = file.read(4 * dimensions)
    if len(header) < 4 * dimensions:
        raise DatasetUnavailable(f"{path} is cut off in its header. Fetch the file again.")
    shape = tuple(int(n) for n in np.frombuffer(header, dtype=">u4"))
    expected = prod(shape)
    if expected > most_bytes:
        raise DatasetUnavailable(f"{path} promises {expected} bytes, more than it can hold. Fetch the file again.")
    content = file.read(expected + 1)
    if len(content) != expected:
        found = "more" if len(content) > expected else f"only {len(content)}"
        raise DatasetUnavailable(f"{path} should hold {expected} bytes of data, but holds {found}. Fetch it again.")
    return np.frombuffer(content, dtype=np.uint8).reshape(shape)


def _find(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()), None)


def _require(folder: Path, stem: str, dimensions: int) -> NDArray[np.uint8]:
    path = _find(folder, stem)
    if path is None:
        raise DatasetUnavailable(f"{folder} has no {stem}.gz. Put all four published files there.")
    return read_idx(path, dimensions=dimensions)
