"""Writes packs: in a temporary folder, which is moved into place when it is complete. Torch-free."""

from __future__ import annotations

import errno
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from math import prod
from pathlib import Path
from typing import Any, Literal, Self, cast

import numpy as np
from numpy.typing import NDArray

from alexnet_core.config import DatasetFacts
from alexnet_core.data.file_names import write_file_names
from alexnet_core.data.moments import Moments, hash_moments
from alexnet_core.data.pack import TEST, TRAIN, VALIDATION, Pack, open_pack, require_arrays
from alexnet_core.data.pack_digest import FORMAT_VERSION, rows_a_chunk, start_digest, update_digest
from alexnet_core.durable import sync_dir
from alexnet_core.errors import DatasetChanged, DatasetDamaged, DatasetUnavailable
from alexnet_core.layout import (
    IMAGES,
    LABELS,
    PACK_FACTS,
    PACK_FACTS_OF_DAMAGED,
    PACK_REPORT,
    SPLIT,
    draft_prefix,
    temporary_name,
)

_SYNCED_BYTES = 1 << 26  # that are written before the disk is asked to sync them
_READ_BYTES = 1 << 20  # of images at a time; three such chunks are in memory


class PackDraft:
    """A pack that is being written in a temporary folder. Images are appended, so little memory is needed.

    A context manager: at its end everything that was not committed is removed.

    Args:
        target_dir: where the pack will stand; several writers of the same content all succeed.
        image_px: side of the images.
        channels: 1 or 3.
        expected: the facts that the pack will probably have. Then the digest is computed while images are appended. If
            the pack gets other facts, which the digest begins with, all images are read again for it.
    """

    def __init__(self, target_dir: Path, *, image_px: int, channels: int, expected: DatasetFacts | None = None) -> None:
        if channels not in (1, 3):
            raise ValueError(f"a pack of {channels} channels: give 1 (grey) or 3 (red, green, blue), without alpha")
        self._target = target_dir
        self._row_shape = (image_px, image_px, channels)
        self._num_images = 0
        self._expected, self._digest = expected, None if expected is None else start_digest(expected)
        target_dir.parent.mkdir(parents=True, exist_ok=True)
        self._temp = Path(tempfile.mkdtemp(prefix=draft_prefix(target_dir.name, os.getpid()), dir=target_dir.parent))
        self._file = (self._temp / IMAGES).open("x+b")
        self._syncs = ThreadPoolExecutor(1, thread_name_prefix="pack")
        self._sync: Future[None] | None = None
        self._unsynced_bytes = 0
        self._write_header()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._syncs.shutdown()
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
        content = np.ascontiguousarray(images_BHWC).data
        self._file.write(content)
        self._num_images += len(images_BHWC)
        if self._digest is not None:
            self._digest.update(content)
        self._sync_some(content.nbytes)

    def commit(
        self,
        *,
        name: str,
        class_names: Sequence[str],
        labels_N: NDArray[np.integer[Any]],
        split_N: NDArray[np.uint8],
        flip_safe: bool,
        report: dict[str, Any] | None = None,
        file_names: Iterable[str] | None = None,
        moments: Moments | None = None,
    ) -> Pack:
        """Complete the pack and move it into place. Where it has not the expected facts, the images are read again.

        Args:
            name: the dataset's.
            class_names: one a class, in the order of the labels.
            labels_N: one an image that was appended.
            split_N: TRAIN, VALIDATION or TEST.
            flip_safe: whether a mirrored image still shows its class.
            report: how the pack was made; kept beside it as `report.json`, no part of the digest.
            file_names: of the files of the images; kept beside them, no part of the digest.
            moments: of the training images' colours. None: they are computed.

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
        require_arrays(facts, (self._num_images, *self._row_shape), labels, split_N)
        self._write_header()
        self._file.flush()
        self._start_sync()  # the disk works while the processor hashes
        digest, computed = self._digest, Moments(facts.channels)
        if digest is None or facts != self._expected or moments is None:
            digest = start_digest(facts)
            for rows, images in self._read_chunks():
                digest.update(images.data)
                if moments is None:
                    computed.add(images[split_N[rows] == TRAIN])
        self._finish_sync()
        update_digest(digest, labels, split_N)
        _write_array(self._temp / LABELS, labels)
        _write_array(self._temp / SPLIT, split_N)
        if file_names is not None:
            write_file_names(self._temp, file_names)
        if report is not None:
            _write_bytes(self._temp / PACK_REPORT, json.dumps(report, indent=2).encode())
        meta = {"format_version": FORMAT_VERSION, **facts.model_dump(mode="json"), **(moments or computed).summary()}
        meta |= {"statistics_sha256": hash_moments(meta), "digest": digest.hexdigest()}
        _write_bytes(self._temp / PACK_FACTS, json.dumps(meta, indent=2).encode())
        sync_dir(self._temp)
        _move_into_place(self._temp, self._target, digest.hexdigest())
        return open_pack(self._target)

    def _sync_some(self, num_bytes: int) -> None:
        """Have the disk write what was appended while more is, so that little is left to be written at the end."""
        self._unsynced_bytes += num_bytes
        if self._unsynced_bytes >= _SYNCED_BYTES and (self._sync is None or self._sync.done()):
            self._start_sync()

    def _start_sync(self) -> None:
        self._finish_sync()
        self._sync, self._unsynced_bytes = self._syncs.submit(os.fsync, self._file.fileno()), 0

    def _finish_sync(self) -> None:
        """Wait for the disk. What goes wrong is only said once, so every answer is looked at.

        Raises:
            OSError: something was not written.
        """
        if self._sync is not None:
            self._sync.result()

    def _write_header(self) -> None:
        """Write numpy's header, whose length does not depend on the number of images (NEP 1, since numpy 1.24)."""
        self._file.seek(0)
        shape = (self._num_images, *self._row_shape)
        np.lib.format.write_array_header_1_0(self._file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        self._data_offset = self._file.tell()

    def _read_chunks(self) -> Iterator[tuple[slice, NDArray[np.uint8]]]:
        """Read all images again in chunks, not mapped: mapped pages would count as this process's memory.

        The next chunk is read while one is worked on.
        """
        self._file.seek(self._data_offset)
        step = max(1, _READ_BYTES // prod(self._row_shape))
        starts = range(0, self._num_images, step)
        with ThreadPoolExecutor(1, thread_name_prefix="pack") as pool:
            waiting: Future[tuple[slice, NDArray[np.uint8]]] | None = None
            for start in starts:
                following = pool.submit(self._read_rows, slice(start, min(start + step, self._num_images)))
                if waiting is not None:
                    yield waiting.result()
                waiting = following
            if waiting is not None:
                yield waiting.result()

    def _read_rows(self, rows: slice) -> tuple[slice, NDArray[np.uint8]]:
        images = np.empty((rows.stop - rows.start, *self._row_shape), dtype=np.uint8)
        if self._file.readinto(images.data.cast("B")) != images.nbytes:
            raise OSError(errno.EIO, "images that were written are missing", str(self._temp))
        return rows, images


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
        step = rows_a_chunk(images_NHWC.shape[1:])
        for start in range(0, len(images_NHWC), step):
            draft.append(images_NHWC[start : start + step])
        return draft.commit(name=name, class_names=class_names, labels_N=labels_N, split_N=split_N, flip_safe=flip_safe)


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
