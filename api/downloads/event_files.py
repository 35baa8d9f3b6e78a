"""A job's TensorBoard event files as one tar, made on request; a running job still writes to them."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import PurePosixPath
from tempfile import SpooledTemporaryFile

from alexnet_core.layout import EVENT_FILES
from trainyard.storage.interface import Storage, StreamFacts

_IN_MEMORY_BYTES = 16 * 1024 * 1024
_PIECE_BYTES = 1024 * 1024


class EventFileArchive:
    """A tar of a job's event files, each as long as it was when the tar was made."""

    def __init__(self, storage: Storage, key: str) -> None:
        """Copy the files below a key. Their names in the tar begin with the key's last name.

        Raises:
            FileNotFoundError: there are none.
            StorageUnavailable: they can't be read now.
        """
        streams = [stream for stream in storage.list_streams(key) if PurePosixPath(stream.key).match(EVENT_FILES)]
        if not streams:
            raise FileNotFoundError(key)
        self._spool = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed when it was sent
        try:
            with tarfile.open(fileobj=self._spool, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for stream in streams:
                    _add(tar, storage, stream, stream.key.removeprefix(key.rpartition("/")[0]).lstrip("/"))
        except BaseException:
            self._spool.close()
            raise
        self.size_bytes = self._spool.tell()
        self._spool.seek(0)
        whole = hashlib.sha256()
        while piece := self._spool.read(_PIECE_BYTES):
            whole.update(piece)
        self._spool.seek(0)
        self.sha256 = whole.digest()
        self.etag = f'"{self.sha256.hex()}"'

    def pieces(self) -> Iterator[bytes]:
        """Yield the tar's bytes; can be called once."""
        with self._spool:
            while piece := self._spool.read(_PIECE_BYTES):
                yield piece

    def close(self) -> None:
        """Remove the copy."""
        self._spool.close()


def _add(tar: tarfile.TarFile, storage: Storage, stream: StreamFacts, name: str) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = stream.size_bytes, int(stream.modified_at), 0o644
    tar.addfile(info, _Reader(storage, stream))


class _Reader(io.RawIOBase):
    """A stream as a file, as long as it was when it was listed."""

    def __init__(self, storage: Storage, stream: StreamFacts) -> None:
        self._storage, self._stream, self._at = storage, stream, 0

    def read(self, size: int = -1) -> bytes:
        left = self._stream.size_bytes - self._at
        piece = self._storage.read_stream(self._stream.key, self._at, self._at + min(left, max(size, 0)))
        self._at += len(piece)
        return piece
