"""A job's TensorBoard event files as one tar, made when it is asked for; a running job still writes to them."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile

from alexnet_core.layout import EVENT_FILES

_IN_MEMORY_BYTES = 16 * 1024 * 1024
_PIECE_BYTES = 256 * 1024


class EventFileArchive:
    """A tar of a job's event files as long as they were when it was made."""

    def __init__(self, folder: Path) -> None:
        """Copy the files; their folder's name stands before their own.

        Raises:
            FileNotFoundError: there are none.
        """
        paths = sorted(path for path in folder.rglob(EVENT_FILES) if path.is_file())
        if not paths:
            raise FileNotFoundError(folder)
        self._spool = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - closed when it was sent
        try:
            with tarfile.open(fileobj=self._spool, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for path in paths:
                    _add(tar, path, f"{folder.name}/{path.relative_to(folder).as_posix()}")
        except BaseException:
            self._spool.close()
            raise
        self.size_bytes = self._spool.tell()
        self._spool.seek(0)

    def pieces(self) -> Iterator[bytes]:
        """The tar's bytes; once."""
        with self._spool:
            while piece := self._spool.read(_PIECE_BYTES):
                yield piece


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    with path.open("rb") as file:
        facts = os.fstat(file.fileno())
        info = tarfile.TarInfo(name)
        info.size, info.mtime, info.mode = facts.st_size, int(facts.st_mtime), 0o644
        tar.addfile(info, file)
