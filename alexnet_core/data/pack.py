"""A dataset as training reads it: an immutable folder of memory-mapped arrays, identified by its content. Torch-free.

images.npy   uint8 (N, H, W, C), H = W
labels.npy   int64 (N,)
split.npy    uint8 (N,): 0 train, 1 validation, 2 test
pack.json    what the dataset is, its counts, the training images' mean, std and covariance of colours, the digest;
             written last; of a pack that was found damaged it is `pack.json.damaged`
report.json  how it was made; only of a dataset of one's own, as are file_names.jsonl and file_names.npy: see there
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_core.config import DatasetFacts
from alexnet_core.data.moments import hash_moments
from alexnet_core.data.pack_digest import FORMAT_VERSION, start_digest, update_digest
from alexnet_core.errors import DatasetChanged, DatasetDamaged, DatasetUnavailable
from alexnet_core.layout import IMAGES, LABELS, PACK_FACTS, PACK_FACTS_OF_DAMAGED, SPLIT
from alexnet_core.regular_files import open_regular, read_regular

TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
_ARRAYS = (IMAGES, LABELS, SPLIT)


@dataclass(frozen=True)
class Pack:
    """An open pack. The arrays are memory-mapped and read-only."""

    path: Path
    facts: DatasetFacts
    images: NDArray[np.uint8]  #: NHWC
    labels: NDArray[np.int64]  #: N
    split: NDArray[np.uint8]  #: N
    mean: tuple[float, ...]  #: one a channel, over the training images, 0..255 units
    std: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]  #: of the channels, over the training images' pixels, (0..255 units)^2
    digest: str  #: sha256 over the content

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.facts.name

    @property
    def class_names(self) -> tuple[str, ...]:
        """The class names in the order of the labels."""
        return self.facts.class_names

    @property
    def channels(self) -> int:
        """The number of colour channels, 1 for grey or 3 for RGB."""
        return self.facts.channels

    def list_indices(self, split: str) -> NDArray[np.int64]:
        """Return the ascending positions of the images of a split (`train`, `validation` or `test`)."""
        return np.flatnonzero(self.split == SPLITS[split]).astype(np.int64)

    def verify(self, while_reading: Callable[[], None] = lambda: None) -> None:
        """Read all content and compare it with the digest.

        Args:
            while_reading: called every few MB; what it raises ends the reading.

        Raises:
            DatasetDamaged: the content is not what the pack says it is.
        """
        sha = start_digest(self.facts)
        update_digest(sha, self.images, self.labels, self.split, after_each=while_reading)
        found = sha.hexdigest()
        if found != self.digest:
            raise DatasetDamaged(
                f"The pack at {self.path} has changed: its content is {found[:12]}…, it should be {self.digest[:12]}…. "
                "Prepare the dataset again."
            )


def open_pack(path: Path) -> Pack:
    """Open a pack without reading its images.

    Raises:
        DatasetUnavailable: there is no whole pack at that path.
        DatasetDamaged: its files are damaged or don't fit each other.
        DatasetChanged: another version of this program wrote it.
        OSError: they can't be read just now, which says nothing about them.
    """
    try:
        meta = json.loads(read_regular(path, PACK_FACTS))
        images, labels, split = (_map_array(path, name) for name in _ARRAYS)
        if meta["format_version"] != FORMAT_VERSION:
            raise DatasetChanged(f"The pack at {path} has format {meta['format_version']}, not {FORMAT_VERSION}.")
        facts = _facts(meta)
        if meta.get("statistics_sha256", found := hash_moments(meta)) != found:  # older packs have none
            raise ValueError("mean, std and covariance have changed since they were written")
        covariance = tuple(tuple(row) for row in meta["covariance"])
        pack = Pack(
            path, facts, images, labels, split, tuple(meta["mean"]), tuple(meta["std"]), covariance, meta["digest"]
        )
    except FileNotFoundError as exc:
        raise DatasetUnavailable(
            f"There is no dataset at {path}: {exc.filename} is missing. Prepare it again."
        ) from exc
    except (EOFError, ValueError, KeyError, TypeError) as exc:
        raise DatasetDamaged(f"The pack at {path} can't be read ({exc}). Prepare the dataset again.") from exc
    _require_consistent(pack)
    return pack


def open_whole(path: Path, while_reading: Callable[[], None] = lambda: None) -> Pack:
    """Open a pack and verify it. A damaged one is moved aside, so that it is made again.

    Args:
        path: its folder.
        while_reading: see `Pack.verify`.

    Raises:
        DatasetUnavailable, DatasetDamaged, DatasetChanged, OSError: see `open_pack`.
    """
    try:
        pack = open_pack(path)
        pack.verify(while_reading)
    except DatasetDamaged:
        with contextlib.suppress(OSError):  # another process was faster; where nothing can be written, nothing is made
            (path / PACK_FACTS).replace(path / PACK_FACTS_OF_DAMAGED)  # whoever has the pack open keeps it
        raise
    return pack


def _map_array(path: Path, name: str) -> NDArray[Any]:
    """Map an array as `numpy.load` does, but only from a regular file; `numpy.load` would open anything of that name.

    Raises:
        ValueError: it is no array that was written here.
    """
    with open_regular(path, name) as file:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):
            raise ValueError(f"{name} has version {version} of NumPy's format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if is_fortran or dtype.hasobject:
            raise ValueError(f"{name} does not hold numbers by rows")
        return np.memmap(file, dtype=dtype, mode="r", offset=file.tell(), shape=shape)


def _facts(meta: dict[str, Any]) -> DatasetFacts:
    return DatasetFacts.model_validate({key: meta[key] for key in DatasetFacts.model_fields})


def _require_consistent(pack: Pack) -> None:
    try:
        _require_bytes(pack.images, "images")
        require_arrays(pack.facts, pack.images.shape, pack.labels, pack.split)
    except ValueError as exc:
        raise DatasetDamaged(f"The pack at {pack.path} is damaged: {exc}. Prepare the dataset again.") from exc


def require_arrays(
    facts: DatasetFacts, images_shape: tuple[int, ...], labels: NDArray[np.int64], split: NDArray[np.uint8]
) -> None:
    """Compare a pack's arrays with its facts.

    Raises:
        ValueError: they don't fit.
    """
    expected = (len(labels), facts.image_px, facts.image_px, facts.channels)
    if images_shape != expected:
        raise ValueError(f"images are {images_shape}, not {expected}")
    _require_bytes(split, "split")
    if split.shape != labels.shape:
        raise ValueError(f"split is {split.shape}, not {labels.shape}")
    if len(labels) and (labels.min() < 0 or labels.max() >= facts.num_classes):
        raise ValueError(f"labels are outside 0..{facts.num_classes - 1}")


def _require_bytes(array: NDArray[Any], what: str) -> None:
    if array.dtype != np.uint8:
        raise ValueError(f"{what} is {array.dtype}, not uint8")
