"""Decompresses an archive as a stream, up to the limits on its size. Torch-free."""

from __future__ import annotations

import gzip
import os
import sys
import zlib
from typing import IO, cast

from alexnet_core.data.archives.members import ArchiveLimits
from alexnet_core.data.archives.refusals import cut_off, damaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_CHUNK_BYTES = 1 << 20
_MAX_WINDOW_LOG = 27  # 128 MiB, what `zstd` decompresses unless it is asked for more; `--long=27` makes it


class UnpackedStream:
    """Reads an archive from start to end, decompresses it if it is compressed, and counts the bytes.

    Args:
        file: the archive, at its start; closed by its owner.
        magic: its first bytes.
        archive_bytes: its size.
        limits: on the unpacked bytes.
    """

    def __init__(self, file: IO[bytes], magic: bytes, archive_bytes: int, limits: ArchiveLimits) -> None:
        self._archive_bytes, self._limits = archive_bytes, limits
        self._num_bytes = 0
        self._file = self._stream = file
        if magic.startswith(GZIP_MAGIC):
            self._stream = cast(IO[bytes], gzip.GzipFile(fileobj=file))
        elif magic.startswith(ZSTD_MAGIC):
            options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _MAX_WINDOW_LOG}
            self._stream = cast(IO[bytes], zstd.ZstdFile(file, options=options))

    def read(self, size: int) -> bytes:
        """Return the next bytes. Fewer than asked for are returned only at the end.

        Raises:
            DatasetInvalid: the archive is damaged or cut off, or unpacks to too much.
            OSError: as from any file that is read.
        """
        parts: list[bytes] = []
        missing = size
        while missing:
            part = self._read_some(missing)
            if not part:
                break
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)

    def skip(self, size: int) -> None:
        """Go forwards. An archive that is not compressed is not read for that.

        Raises:
            DatasetInvalid: the archive ends before; or see `read`.
            OSError: see `read`.
        """
        if self._stream is self._file:
            if self._file.tell() + size > self._archive_bytes:
                raise cut_off()
            self._file.seek(size, os.SEEK_CUR)
            return
        while size:
            part = self._read_some(min(size, _CHUNK_BYTES))
            if not part:
                raise cut_off()
            size -= len(part)

    def _read_some(self, size: int) -> bytes:
        try:
            part = self._stream.read(size)
        except EOFError as exc:
            raise cut_off() from exc
        except (gzip.BadGzipFile, zlib.error, zstd.ZstdError) as exc:
            raise damaged(exc) from exc
        self._num_bytes += len(part)
        self._limits.require_small(self._num_bytes, self._archive_bytes)
        return part
