"""A dataset as training reads it: an immutable folder of memory-mapped arrays, identified by its content. Torch-free.

images.npy   uint8 (N, H, W, C), H = W
labels.npy   int64 (N,)
split.npy    uint8 (N,): 0 train, 1 validation, 2 test
pack.json    what the dataset is, its counts, the training images' mean, std and covariance of colours, the digest;
             written last; of a pack that was found damaged it is `pack.json.damaged`
report.json  how it was made; only of a dataset of one's own
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from alexnet_core.config import DatasetFacts
from alexnet_core.data.moments import Moments, hash_moments
from alexnet_core.durable import sync_dir
from alexnet_core.errors import DatasetChanged, DatasetDamaged, DatasetUnavailable
from alexnet_core.layout import (
    IMAGES,
    LABELS,
    PACK_FACTS,
    PACK_FACTS_OF_DAMAGED,
    PACK_REPORT,
    SPLIT,
    TEMPORARY_PREFIX,
    temporary_name,
)
from alexnet_core.regular_files import open_regular, read_regular

FORMAT_VERSION = 1
TRAIN, VALIDATION, TEST = 0, 1, 2
SPLITS = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
_ARRAYS = (IMAGES, LABELS, SPLIT)
_CHUNK_BYTES = 1 << 23


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
        sha = _digest(self.facts)
        _update(sha, self.images, self.labels, self.split, after_each=while_reading)
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


class PackDraft:
    """A pack that is being written in a temporary folder. Images are appended, so little memory is needed.

    A context manager: at its end everything that was not committed is removed.

    Args:
        target_dir: where the pack will stand; several writers of the same content all succeed.
        image_px: side of the images.
        channels: 1 or 3.
    """

    def __init__(self, target_dir: Path, *, image_px: int, channels: int) -> None:
        if channels not in (1, 3):
            raise ValueError(f"a pack of {channels} channels: give 1 (grey) or 3 (red, green, blue), without alpha")
        self._target = target_dir
        self._row_shape = (image_px, image_px, channels)
        self._num_images = 0
        target_dir.parent.mkdir(parents=True, exist_ok=True)
        self._temp = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}pack-", dir=target_dir.parent))
        self._file = (self._temp / IMAGES).open("x+b")
        self._write_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._file.close()
        finally:
            shutil.rmtree(self._temp, ignore_errors=True)

    def append(self, images_BHWC: NDArray[np.uint8]) -> None:
        """Append some images.

        Raises:
            ValueError: they have another size, channels or dtype than this pack.
            OSError: as from any file that is written.
        """
        if images_BHWC.shape[1:] != self._row_shape or images_BHWC.dtype != np.uint8:
            raise ValueError(f"images are {images_BHWC.dtype} {images_BHWC.shape}, not uint8 (N, {self._row_shape})")
        self._file.write(np.ascontiguousarray(images_BHWC).data)
        self._num_images += len(images_BHWC)

    def commit(
        self,
        *,
        name: str,
        class_names: Sequence[str],
        labels_N: NDArray[np.integer[Any]],
        split_N: NDArray[np.uint8],
        flip_safe: bool,
        report: dict[str, Any] | None = None,
    ) -> Pack:
        """Complete the pack and move it into place. The images are read again, for digest and statistics.

        Args:
            name: the dataset's.
            class_names: one a class, in the order of the labels.
            labels_N: one an image that was appended.
            split_N: TRAIN, VALIDATION or TEST.
            flip_safe: whether a mirrored image still shows its class.
            report: how the pack was made; kept beside it as `report.json`, no part of the digest.

        Raises:
            ValueError: the arrays don't fit the images.
            DatasetChanged: another pack with other content stands there already.
            OSError: as from any file that is written.
        """
        labels = labels_N.astype(np.int64)
        facts = DatasetFacts(
            name=name,
            num_classes=len(class_names),
            class_names=tuple(class_names),
            image_px=self._row_shape[0],
            channels=cast(Literal[1, 3], self._row_shape[2]),
            flip_safe=flip_safe,
            num_train=int((split_N == TRAIN).sum()),
            num_val=int((split_N == VALIDATION).sum()),
            num_test=int((split_N == TEST).sum()),
        )
        _require_arrays(facts, (self._num_images, *self._row_shape), labels, split_N)
        self._write_header()
        digest, moments = _digest(facts), Moments(facts.channels)
        for rows, images in self._read_chunks():
            digest.update(images.data)
            moments.add(images[split_N[rows] == TRAIN])
        _update(digest, labels, split_N)
        os.fsync(self._file.fileno())
        _write_array(self._temp / LABELS, labels)
        _write_array(self._temp / SPLIT, split_N)
        if report is not None:
            _write_bytes(self._temp / PACK_REPORT, json.dumps(report, indent=2).encode())
        meta = {"format_version": FORMAT_VERSION, **facts.model_dump(mode="json"), **moments.summary()}
        meta |= {"statistics_sha256": hash_moments(meta), "digest": digest.hexdigest()}
        _write_bytes(self._temp / PACK_FACTS, json.dumps(meta, indent=2).encode())
        sync_dir(self._temp)
        _move_into_place(self._temp, self._target, digest.hexdigest())
        return open_pack(self._target)

    def _write_header(self) -> None:
        """Write numpy's header, whose length does not depend on the number of images (NEP 1, since numpy 1.24)."""
        self._file.seek(0)
        shape = (self._num_images, *self._row_shape)
        np.lib.format.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._data_offset = self._file.tell()

    def _read_chunks(self) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Read all images again in chunks, not mapped: mapped pages would count as this process's memory."""
        self._file.seek(self._data_offset)
        step = _rows_a_chunk(self._row_shape)
        for start in range(0, self._num_images, step):
            rows = slice(start, min(start + step, self._num_images))
            images = np.empty((rows.stop - rows.start, *self._row_shape), dtype=np.uint8)
            if self._file.readinto(images.data.cast("B")) != images.nbytes:
                raise OSError(errno.EIO, "images that were written are missing", str(self._temp))
            yield rows, images


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
    """Write a pack from images in memory; see `PackDraft`.

    Raises:
        ValueError: the arrays don't fit each other.
        DatasetChanged: another pack with other content stands there already.
    """
    with PackDraft(target_dir, image_px=images_NHWC.shape[1], channels=images_NHWC.shape[3]) as draft:
        step = _rows_a_chunk(images_NHWC.shape[1:])
        for start in range(0, len(images_NHWC), step):
            draft.append(images_NHWC[start : start + step])
        return draft.commit(name=name, class_names=class_names, labels_N=labels_N, split_N=split_N, flip_safe=flip_safe)


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
        _require_arrays(pack.facts, pack.images.shape, pack.labels, pack.split)
    except ValueError as exc:
        raise DatasetDamaged(f"The pack at {pack.path} is damaged: {exc}. Prepare the dataset again.") from exc


def _require_arrays(
    facts: DatasetFacts, images_shape: tuple[int, ...], labels: NDArray[np.int64], split: NDArray[np.uint8]
) -> None:
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


def _rows_a_chunk(row_shape: tuple[int, ...]) -> int:
    return max(1, _CHUNK_BYTES // max(1, prod(row_shape)))


def _digest(facts: DatasetFacts) -> hashlib._Hash:
    """Start the sha256 over the dataset's facts, except its name, and every byte of its arrays."""
    content = facts.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps([FORMAT_VERSION, content], sort_keys=True).encode())


def _update(digest: hashlib._Hash, *arrays: NDArray[Any], after_each: Callable[[], None] = lambda: None) -> None:
    for array in arrays:
        step = _rows_a_chunk((array.itemsize, *array.shape[1:]))
        for start in range(0, len(array), step):
            chunk = array[start : start + step]
            digest.update(np.ascontiguousarray(chunk, dtype=chunk.dtype.newbyteorder("<")).data)
            after_each()


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
    """Move the pack to its place unless the same pack is there already. A damaged one is replaced."""
    temp.chmod(0o755)
    try:
        temp.rename(target)
    except OSError:  # another writer was faster, or an older pack stands there
        if not any((target / name).exists() for name in (PACK_FACTS, PACK_FACTS_OF_DAMAGED)):
            raise
        if not _is_whole(target, digest):
            damaged = target.with_name(temporary_name("damaged"))
            target.rename(damaged)
            temp.rename(target)
            shutil.rmtree(damaged, ignore_errors=True)
    sync_dir(target.parent)


def _is_whole(path: Path, digest: str) -> bool:
    """Whether an undamaged pack with that digest is there; if not, it may be replaced."""
    try:
        pack = open_pack(path)
        if pack.digest != digest:
            raise DatasetChanged(f"There is another dataset at {path} already. Packs are never overwritten.")
        pack.verify()
    except (DatasetDamaged, DatasetUnavailable):
        return False
    return True
