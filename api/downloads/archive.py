"""Files of a checkpoint as one tar stream: verified first, then sent in pieces, with a length that is known before."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_core.regular_files import open_regular
from trainyard.database.tables import Checkpoint

_PIECE_BYTES = 256 * 1024
_BLOCK_BYTES = 512


class Damaged(Exception):
    """A file of the checkpoint is missing, or is not the one that was committed."""


@dataclass(frozen=True)
class _Member:
    header: bytes
    file: BinaryIO
    size: int

    @property
    def padding(self) -> int:
        return -self.size % _BLOCK_BYTES


class Archive:
    """The open, verified files of a checkpoint. They stay readable even if it is pruned while they are sent."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._members: list[_Member] = []

    @property
    def size_bytes(self) -> int:
        """The length of the tar."""
        return sum(_BLOCK_BYTES + member.size + member.padding for member in self._members) + 2 * _BLOCK_BYTES

    def add_file(self, path: Path, sha256: str | None) -> None:
        """Open and verify a file, under its own name.

        Raises:
            Damaged: see there; all files are closed.
        """
        try:
            file = open_regular(path.parent, path.name)
        except FileNotFoundError as exc:
            self.close()
            raise Damaged(f"{path.name} is not there") from exc
        digest = hashlib.sha256()
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
        self._add(path.name, file, file.seek(0, io.SEEK_CUR))
        if digest.hexdigest() != sha256:
            self.close()
            raise Damaged(f"{path.name} does not match its sha256")

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a file that exists only here."""
        self._add(name, io.BytesIO(data), len(data))

    def _add(self, name: str, file: BinaryIO, size: int) -> None:
        file.seek(0)
        info = tarfile.TarInfo(f"{self._checkpoint.id}/{name}")
        info.size, info.mtime, info.mode = size, int(self._checkpoint.created_at), 0o644
        self._members.append(_Member(info.tobuf(tarfile.USTAR_FORMAT), file, size))

    def pieces(self) -> Iterator[bytes]:
        """Yield the tar's bytes, and close the files at the end."""
        try:
            for member in self._members:
                yield member.header
                left = member.size
                while left > 0:
                    piece = member.file.read(min(left, _PIECE_BYTES))
                    if not piece:
                        raise Damaged("a file became shorter while it was sent")
                    left -= len(piece)
                    yield piece
                yield bytes(member.padding)
            yield bytes(2 * _BLOCK_BYTES)
        finally:
            self.close()

    def close(self) -> None:
        """Close the files."""
        for member in self._members:
            member.file.close()
