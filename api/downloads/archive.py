"""A checkpoint as one tar stream: verified first, then sent in pieces, with a length that is known in advance."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from alexnet_core.layout import CHECKPOINT_FILES, MANIFEST
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

    def __init__(self, checkpoint: Checkpoint, folder: Path) -> None:
        """Open and verify the files.

        Raises:
            Damaged: see there.
        """
        expected = {name: checkpoint.files.get(name, {}).get("sha256") for name in CHECKPOINT_FILES}
        expected[MANIFEST] = checkpoint.manifest_sha256
        self._members: list[_Member] = []
        try:
            for name, sha256 in expected.items():
                self._members.append(_open_member(checkpoint, folder / name, sha256))
        except BaseException:
            self.close()
            raise
        self.size_bytes = (
            sum(_BLOCK_BYTES + member.size + member.padding for member in self._members) + 2 * _BLOCK_BYTES
        )

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


def _open_member(checkpoint: Checkpoint, path: Path, sha256: str | None) -> _Member:
    try:
        file = open_regular(path.parent, path.name)
    except FileNotFoundError as exc:
        raise Damaged(f"{path.name} is not there") from exc
    digest = hashlib.sha256()
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
    size = file.seek(0, io.SEEK_CUR)
    if digest.hexdigest() != sha256:
        file.close()
        raise Damaged(f"{path.name} does not match its sha256")
    file.seek(0)
    info = tarfile.TarInfo(f"{checkpoint.id}/{path.name}")
    info.size, info.mtime, info.mode = size, int(checkpoint.created_at), 0o644
    return _Member(info.tobuf(tarfile.USTAR_FORMAT), file, size)
