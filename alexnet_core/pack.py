"""A dataset as training reads it: an immutable folder of memory-mapped arrays, identified by its content. Torch-free.

images.npy   uint8 (N, H, W, C), H = W
labels.npy   int64 (N,)
split.npy    uint8 (N,): 0 train, 1 validation, 2 test
pack.json    what the dataset is, its counts, the training images' mean, std and covariance of colours, the digest;
             written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_core.config import DatasetFacts
from alexnet_core.durable import sync_dir
from alexnet_core.errors import DatasetChanged, DatasetUnavailable

FORMAT_VERSION = 1
TRAIN, VAL, TEST = 0, 1, 2
SPLITS = {"train": TRAIN, "val": VAL, "test": TEST}
_ARRAYS = ("images.npy", "labels.npy", "split.npy")
_CHUNK_IMAGES = 4096
_CHUNK_PIXELS = 1 << 20


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
        """One name a class, in the order of the labels."""
        return self.facts.class_names

    @property
    def channels(self) -> int:
        """1: grey, 3: RGB."""
        return self.facts.channels

    def list_indices(self, split: str) -> NDArray[np.int64]:
        """The positions of a split's images (`train`, `val` or `test`), ascending."""
        return np.flatnonzero(self.split == SPLITS[split]).astype(np.int64)

    def verify(self) -> None:
        """Read everything and compare with the digest.

        Raises:
            DatasetChanged: the content is not what the pack says it is.
        """
        found = _digest(self.facts, self.images, self.labels, self.split)
        if found != self.digest:
            raise DatasetChanged(
                f"The pack at {self.path} has changed: its content is {found[:12]}…, it should be {self.digest[:12]}…. "
                "Prepare the dataset again."
            )


def open_pack(path: Path) -> Pack:
    """Open a pack without reading its images.

    Raises:
        DatasetUnavailable: there is no whole pack at that path.
        DatasetChanged: its files are damaged or don't fit each other.
        OSError: they can't be read just now, which says nothing about them.
    """
    try:
        meta = json.loads((path / "pack.json").read_text(encoding="utf-8"))
        images, labels, split = (np.load(path / name, mmap_mode="r", allow_pickle=False) for name in _ARRAYS)
        if meta["format_version"] != FORMAT_VERSION:
            raise DatasetChanged(f"The pack at {path} has format {meta['format_version']}, not {FORMAT_VERSION}.")
        facts = _facts(meta)
        covariance = tuple(tuple(row) for row in meta["covariance"])
        pack = Pack(
            path, facts, images, labels, split, tuple(meta["mean"]), tuple(meta["std"]), covariance, meta["digest"]
        )
    except FileNotFoundError as exc:
        raise DatasetUnavailable(
            f"There is no dataset at {path}: {exc.filename} is missing. Prepare it again."
        ) from exc
    except (EOFError, ValueError, KeyError, TypeError) as exc:
        raise DatasetChanged(f"The pack at {path} can't be read ({exc}). Prepare the dataset again.") from exc
    _require_consistent(pack)
    return pack


def write_pack(
    target_dir: Path,
    *,
    name: str,
    class_names: Sequence[str],
    images_NHWC: NDArray[np.uint8],
    labels_N: NDArray[np.integer[Any]],
    split_N: NDArray[np.uint8],
    flip_safe: bool,
) -> Pack:
    """Write a pack beside its place and move it there whole. Several writers of the same content all succeed.

    Raises:
        ValueError: the arrays don't fit each other.
        DatasetChanged: another pack with other content stands there already.
    """
    labels = labels_N.astype(np.int64)
    facts = DatasetFacts(
        name=name,
        num_classes=len(class_names),
        class_names=tuple(class_names),
        image_px=images_NHWC.shape[1],
        channels=images_NHWC.shape[3],
        flip_safe=flip_safe,
        num_train=int((split_N == TRAIN).sum()),
        num_val=int((split_N == VAL).sum()),
        num_test=int((split_N == TEST).sum()),
    )
    _require_arrays(facts, images_NHWC, labels, split_N)
    digest = _digest(facts, images_NHWC, labels, split_N)
    target_dir.parent.mkdir(parents=True, exist_ok=True)
    temp = Path(tempfile.mkdtemp(prefix=".tmp-pack-", dir=target_dir.parent))
    try:
        arrays: tuple[NDArray[Any], ...] = (images_NHWC, labels, split_N)
        for file_name, array in zip(_ARRAYS, arrays, strict=True):
            _write_array(temp / file_name, array)
        meta = {"format_version": FORMAT_VERSION, **facts.model_dump(mode="json"), **_statistics(images_NHWC, split_N)}
        _write_bytes(temp / "pack.json", json.dumps(meta | {"digest": digest}, indent=2).encode())
        sync_dir(temp)
        _move_into_place(temp, target_dir, digest)
    finally:
        shutil.rmtree(temp, ignore_errors=True)
    return open_pack(target_dir)


def split_validation(
    labels_N: NDArray[np.integer[Any]],
    images_NHWC: NDArray[np.uint8],
    *,
    fraction: float = 0.1,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Which images to validate on: a fixed share of each class, always the same for the same images and seed.

    Identical images (equal bytes, whatever their labels) are never on both sides.

    Returns:
        (N,) True for validation. Every class keeps at least one image to train on.
    """
    groups: dict[bytes, list[int]] = {}
    for index in range(len(labels_N)):
        groups.setdefault(hashlib.blake2b(images_NHWC[index].tobytes(), digest_size=16).digest(), []).append(index)
    salt = str(seed).encode()
    order = sorted(groups, key=lambda key: hashlib.blake2b(key + salt, digest_size=16).digest())
    counts = np.bincount(labels_N, minlength=1)
    wanted = np.minimum(np.round(counts * fraction), np.maximum(counts - 1, 0)).astype(int)
    chosen = np.zeros(len(labels_N), dtype=np.bool_)
    for key in order:
        members = groups[key]
        taken = np.bincount(labels_N[members], minlength=len(wanted))
        if np.all(taken <= wanted):
            wanted -= taken
            chosen[members] = True
    return chosen


def _facts(meta: dict[str, Any]) -> DatasetFacts:
    return DatasetFacts.model_validate({key: meta[key] for key in DatasetFacts.model_fields})


def _require_consistent(pack: Pack) -> None:
    try:
        _require_arrays(pack.facts, pack.images, pack.labels, pack.split)
    except ValueError as exc:
        raise DatasetChanged(f"The pack at {pack.path} is damaged: {exc}. Prepare the dataset again.") from exc


def _require_arrays(
    facts: DatasetFacts, images: NDArray[np.uint8], labels: NDArray[np.int64], split: NDArray[np.uint8]
) -> None:
    expected = (len(labels), facts.image_px, facts.image_px, facts.channels)
    if images.shape != expected or images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype} {images.shape}, not uint8 {expected}")
    if split.shape != labels.shape or split.dtype != np.uint8:
        raise ValueError(f"split is {split.dtype} {split.shape}, not uint8 {labels.shape}")
    if len(labels) and (labels.min() < 0 or labels.max() >= facts.num_classes):
        raise ValueError(f"labels are outside 0..{facts.num_classes - 1}")


def _digest(facts: DatasetFacts, images: NDArray[np.uint8], labels: NDArray[np.int64], split: NDArray[np.uint8]) -> str:
    """Sha256 over what the dataset is and every byte of its arrays; the name is not part of it."""
    content = facts.model_dump(mode="json", exclude={"name"})
    sha = hashlib.sha256(json.dumps([FORMAT_VERSION, content], sort_keys=True).encode())
    for array in (images, labels.astype("<i8", copy=False), split):
        for start in range(0, len(array), _CHUNK_IMAGES):
            sha.update(np.ascontiguousarray(array[start : start + _CHUNK_IMAGES]).data)
    return sha.hexdigest()


def _statistics(images: NDArray[np.uint8], split: NDArray[np.uint8]) -> dict[str, Any]:
    """Mean and std by channel and the channels' covariance, over the pixels of the training images.

    Sums of products of bytes are whole numbers, so nothing is lost until the last division.
    """
    channels, count = images.shape[3], 0
    sums, products = np.zeros(channels, dtype=np.int64), np.zeros((channels, channels), dtype=np.int64)
    indices = np.flatnonzero(split == TRAIN)
    for start in range(0, len(indices), _CHUNK_IMAGES):
        pixels = images[indices[start : start + _CHUNK_IMAGES]].reshape(-1, channels)
        for chunk in np.array_split(pixels, max(1, len(pixels) // _CHUNK_PIXELS)):
            exact = chunk.astype(np.float64)  # whole numbers below 2^53
            sums += exact.sum(axis=0).astype(np.int64)
            products += (exact.T @ exact).astype(np.int64)
        count += len(pixels)
    total = max(1, count)
    mean = sums / total
    covariance = products / total - np.outer(mean, mean)
    std = np.sqrt(np.maximum(np.diag(covariance), 0))
    return {"mean": mean.tolist(), "std": std.tolist(), "covariance": covariance.tolist()}


def _write_array(path: Path, array: NDArray[Any]) -> None:
    with path.open("xb") as file:
        np.save(file, np.ascontiguousarray(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _write_bytes(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _move_into_place(temp: Path, target: Path, digest: str) -> None:
    temp.chmod(0o755)
    try:
        temp.rename(target)
    except OSError:  # another writer was faster, or an older pack stands there
        if not (target / "pack.json").exists():
            raise
        if open_pack(target).digest != digest:
            raise DatasetChanged(f"Another dataset stands at {target} already. Packs are never overwritten.") from None
    sync_dir(target.parent)
