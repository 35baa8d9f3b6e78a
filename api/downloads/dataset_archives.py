"""A dataset as one tar stream: its pack as it is stored, or its images in class folders, made as they are sent."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from alexnet_core.data.inspection.class_folders import list_image_files
from alexnet_core.data.inspection.thumbnails import draw_image
from alexnet_core.data.pack import Pack
from alexnet_core.data.pack_digest import start_digest
from alexnet_core.layout import FILE_NAME_STARTS, FILE_NAMES, IMAGES, LABELS, PACK_FACTS, PACK_REPORT, SPLIT
from alexnet_core.regular_files import open_regular
from api.downloads.slots import DownloadSlot
from api.downloads.stored_packs import StoredPack
from trainyard.storage.interface import Storage

_PIECE_BYTES = 256 * 1024
_BLOCK_BYTES = 512
_ARRAYS = (IMAGES, LABELS, SPLIT)  # in the order of the digest
_OPTIONAL = (PACK_REPORT, FILE_NAMES, FILE_NAME_STARTS)


class DatasetDamagedInStore(Exception):
    """The bytes that were sent are not the dataset: its download ends before `pack.json`, so that nobody uses it."""


class _DatasetArchive:
    """What both archives hold: an open pack, which nobody removes, and one of the downloads at a time."""

    size_bytes: int | None = None
    etag: str | None = None
    sha256: bytes | None = None

    def __init__(self, storage: Storage, stored: StoredPack, slot: DownloadSlot) -> None:
        """Open the pack. The slot is given back by `close`, or at once if that fails.

        Raises:
            DatasetNotReady, StorageUnavailable: see `StoredPack.open`.
        """
        with contextlib.ExitStack() as held:
            held.callback(slot.close)
            self._pack: Pack = held.enter_context(stored.open(storage))
            self._top, self._made_at = stored.dataset_id, stored.made_at
            self._open(held)
            self._held = held.pop_all()

    def _open(self, held: contextlib.ExitStack) -> None:
        """Open what the archive needs beside the pack."""

    def _head(self, path: str, size: int) -> bytes:
        """Return what precedes a file in the tar."""
        info = tarfile.TarInfo(f"{self._top}/{path}")
        info.size, info.mtime, info.mode = size, int(self._made_at), 0o644
        return info.tobuf(tarfile.PAX_FORMAT)

    def close(self) -> None:
        """Release what is held; harmless a second time."""
        self._held.close()


class PackArchive(_DatasetArchive):
    """A tar of a pack's files. Its content is compared with the digest while it is sent, before `pack.json`."""

    def _open(self, held: contextlib.ExitStack) -> None:
        self._files: list[tuple[str, BinaryIO, int]] = []
        total, tag = 2 * _BLOCK_BYTES, hashlib.sha256(self._pack.digest.encode())
        for name in (*_ARRAYS, *_OPTIONAL, PACK_FACTS):
            try:
                file = held.enter_context(open_regular(self._pack.path, name))
            except FileNotFoundError:
                if name not in _OPTIONAL:
                    raise
                continue
            size = os.fstat(file.fileno()).st_size
            self._files.append((name, file, size))
            head = self._head(name, size)
            total += len(head) + size + _padding(size)
            tag.update(head)
            if name not in _ARRAYS:  # those are in the digest, with which they are compared while they are sent
                while piece := file.read(_PIECE_BYTES):
                    tag.update(piece)
                file.seek(0)
        self.size_bytes, self.etag = total, f'"{tag.hexdigest()}"'

    def pieces(self) -> Iterator[bytes]:
        """Yield the tar's bytes; can be called once.

        Raises:
            DatasetDamagedInStore: see there.
        """
        digest = start_digest(self._pack.facts)
        for name, file, size in self._files:
            if name == PACK_FACTS and digest.hexdigest() != self._pack.digest:
                raise DatasetDamagedInStore(f"{self._pack.path} does not match its digest")
            yield self._head(name, size)
            skipped = _measure_header(file) if name in _ARRAYS else size  # of the array file: no part of the digest
            sent = 0
            while piece := file.read(min(_PIECE_BYTES, size - sent)):
                digest.update(piece[max(0, skipped - sent) :])
                sent += len(piece)
                yield piece
            if sent != size:
                raise DatasetDamagedInStore(f"{name} became shorter while it was sent")
            yield bytes(_padding(size))
        yield bytes(2 * _BLOCK_BYTES)


class ImageArchive(_DatasetArchive):
    """A tar of a pack's images as PNG files in class folders. Its length is not known before."""

    def pieces(self) -> Iterator[bytes]:
        """Yield the tar's bytes, some images at a time; can be called once."""
        buffer = io.BytesIO()
        for file in list_image_files(self._pack):
            png = draw_image(self._pack, file.position)
            buffer.write(self._head(file.path, len(png)) + png + bytes(_padding(len(png))))
            if buffer.tell() >= _PIECE_BYTES:
                yield buffer.getvalue()
                buffer = io.BytesIO()
        yield buffer.getvalue() + bytes(2 * _BLOCK_BYTES)


def _measure_header(file: BinaryIO) -> int:
    """Return where the numbers of an array file begin. The file is at its start again."""
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    start = file.tell()
    file.seek(0)
    return start


def _padding(size: int) -> int:
    return -size % _BLOCK_BYTES
