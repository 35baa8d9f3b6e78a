"""Files of a checkpoint as one tar stream: verified first, then sent in pieces, with a length that is known before."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_core.regular_files import open_regular
from trainyard.database.tables import Checkpoint

_PIECE_BYTES = 256 * 1024
_BLOCK_BYTES = 512
_END = bytes(2 * _BLOCK_BYTES)


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
        self._sum = hashlib.sha256()

    @property
    def size_bytes(self) -> int:
        """The length of the tar."""
        return sum(_BLOCK_BYTES + member.size + member.padding for member in self._members) + len(_END)

    @property
    def sha256(self) -> bytes:
        """The sha256 of the tar."""
        whole = self._sum.copy()
        whole.update(_END)
        return whole.digest()

    @property
    def etag(self) -> str:
        """The sha256 of the tar, in quotes."""
        return f'"{self.sha256.hex()}"'

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
        member = self._add(path.name, file, os.fstat(file.fileno()).st_size)
        digest, size = hashlib.sha256(), 0
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            self._sum.update(piece)
            size += len(piece)
        file.seek(0)
        self._sum.update(bytes(member.padding))
        if digest.hexdigest() != sha256 or size != member.size:
            self.close()
            raise Damaged(f"{path.name} does not match its sha256")

    def add_bytes(self, name: str, data: bytes) -> None:
        """Add a file that exists only here."""
        member = self._add(name, io.BytesIO(data), len(data))
        self._sum.update(data + bytes(member.padding))

    def _add(self, name: str, file: BinaryIO, size: int) -> _Member:
        info = tarfile.TarInfo(f"{self._checkpoint.id}/{name}")
        info.size, info.mtime, info.mode = size, int(self._checkpoint.created_at), 0o644
        member = _Member(info.tobuf(tarfile.USTAR_FORMAT), file, size)
        self._members.append(member)
        self._sum.update(member.header)
        return member

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
            yield _END
        finally:
            self.close()

    def close(self) -> None:
        """Close the files."""
        for member in self._members:
            member.file.close()
