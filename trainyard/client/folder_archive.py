"""A folder as a tar archive that can be read from any byte on, without a copy on the disk.

The same folder gives the same bytes: the order is that of the names, and no times, owners or permissions are in it. So
an upload that was cut goes on where it stopped, even in another process. Images are compressed already, so the archive
is not.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

_BLOCK = tarfile.BLOCKSIZE
_END = bytes(2 * _BLOCK)
_CHUNK = 1024 * 1024
_COMPRESSED = (b"PK", b"\x1f\x8b", b"\x28\xb5\x2f\xfd")  # zip, gzip, zstd


class SourceChanged(Exception):
    """A file is not what it was when the upload began."""


class UploadSource(Protocol):
    """Bytes to be uploaded, which can be read from any place on, again and again."""

    @property
    def file_name(self) -> str:
        """What the upload is called."""
        ...

    @property
    def size_bytes(self) -> int:
        """The number of bytes."""
        ...

    @property
    def fingerprint(self) -> str:
        """Tells whether an upload that was begun is of these very files."""
        ...

    def read_from(self, offset: int) -> Iterator[bytes]:
        """Yield the bytes from an offset on.

        Raises:
            SourceChanged: a file has changed since this was made.
            OSError: a file can't be read.
        """
        ...


def open_source(path: Path) -> UploadSource:
    """Return a folder or an archive file as something to upload.

    Raises:
        FileNotFoundError: there is neither.
        ValueError: the folder holds no file, or the file is no archive.
    """
    if path.is_dir():
        return FolderArchive(path)
    _require_archive(path)
    return ArchiveFile(path)


def _require_archive(path: Path) -> None:
    """Refuse a picture or a text before it is sent: a yard takes zip, tar, tar.gz and tar.zst, whatever their names."""
    with path.open("rb") as file:
        begin = file.read(_BLOCK)
    if not begin.startswith(_COMPRESSED) and not _is_tar(begin):
        raise ValueError(
            f"{path} is no archive: give a folder with a folder of pictures for each class, or a zip, tar, tar.gz or "
            "tar.zst of one"
        )


def _is_tar(begin: bytes) -> bool:
    try:
        tarfile.TarInfo.frombuf(begin, "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


class ArchiveFile:
    """An archive that stands on the disk."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._facts = _look(path)

    @property
    def file_name(self) -> str:
        """See `UploadSource`."""
        return self._path.name

    @property
    def size_bytes(self) -> int:
        """See `UploadSource`."""
        return self._facts.size

    @property
    def fingerprint(self) -> str:
        """See `UploadSource`."""
        return _hash([(self._path.name, self._facts)])

    def read_from(self, offset: int) -> Iterator[bytes]:
        """See `UploadSource`."""
        yield from _read_file(self._path, self._facts, offset)


@dataclass(frozen=True)
class _Facts:
    """What must not change while a file is uploaded."""

    size: int
    modified_ns: int


@dataclass(frozen=True)
class _Member:
    """A file in the archive."""

    path: Path
    facts: _Facts
    header: bytes
    start: int  #: of its header, in the archive

    @property
    def content_start(self) -> int:
        return self.start + len(self.header)

    @property
    def end(self) -> int:
        return self.content_start + -(-self.facts.size // _BLOCK) * _BLOCK


class FolderArchive:
    """The files of a folder. Links and what is neither file nor folder are left out."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._members: list[_Member] = []
        start = 0
        for relative in _list_files(folder):
            facts = _look_again(folder / relative)
            member = _Member(folder / relative, facts, _header(relative, facts.size), start)
            self._members.append(member)
            start = member.end
        if not self._members:
            raise ValueError(f"{folder} holds no file: put a folder of pictures for each class into it")
        self._size = start + len(_END)

    @property
    def file_name(self) -> str:
        """See `UploadSource`."""
        return f"{self._folder.resolve().name}.tar"

    @property
    def size_bytes(self) -> int:
        """See `UploadSource`."""
        return self._size

    @property
    def num_files(self) -> int:
        """The number of files."""
        return len(self._members)

    @property
    def fingerprint(self) -> str:
        """See `UploadSource`."""
        return _hash([(str(member.path.relative_to(self._folder)), member.facts) for member in self._members])

    def read_from(self, offset: int) -> Iterator[bytes]:
        """See `UploadSource`."""
        for member in self._members:
            if member.end <= offset:
                continue
            if offset < member.content_start:
                yield member.header[max(0, offset - member.start) :]
            skipped = max(0, offset - member.content_start)
            if skipped < member.facts.size:
                yield from _read_file(member.path, member.facts, skipped)
            padding = member.end - max(member.content_start + member.facts.size, offset)
            if padding > 0:
                yield bytes(padding)
        yield _END[max(0, offset - (self._size - len(_END))) :]


def _list_files(folder: Path) -> list[str]:
    found = []
    for place, folders, files in os.walk(folder):
        folders.sort()
        relative = Path(place).relative_to(folder)
        found += [(relative / name).as_posix() for name in files if _is_file(Path(place) / name)]
    return sorted(found)


def _is_file(path: Path) -> bool:
    return stat.S_ISREG(path.lstat().st_mode)


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.PAX_FORMAT)


def _look(path: Path) -> _Facts:
    facts = path.stat()
    return _Facts(facts.st_size, facts.st_mtime_ns)


def _read_file(path: Path, facts: _Facts, offset: int) -> Iterator[bytes]:
    left = facts.size - offset
    _look_again(path)
    with path.open("rb") as file:
        file.seek(offset)
        while left > 0 and (chunk := file.read(min(_CHUNK, left))):
            left -= len(chunk)
            if left == 0:
                _require_unchanged(path, facts)  # before the last bytes: who has them asks for no more
            yield chunk
    if left > 0 or facts.size == 0:
        _require_unchanged(path, facts)


def _look_again(path: Path) -> _Facts:
    """Return what a file is that was there a moment ago."""
    try:
        return _look(path)
    except FileNotFoundError as exc:
        raise SourceChanged(f"{path} was removed while its folder was read: start again") from exc


def _require_unchanged(path: Path, facts: _Facts) -> None:
    if _look_again(path) != facts:
        raise SourceChanged(f"{path} has changed while it was uploaded: start again")


def _hash(files: list[tuple[str, _Facts]]) -> str:
    digest = hashlib.sha256()
    for name, facts in files:
        digest.update(f"{name}\0{facts.size}\0{facts.modified_ns}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
