"""Reads the members of a tar: one pass over the headers with `tarfile`, then the contents by their place. Torch-free.

An uncompressed tar is read in place. In a compressed one, a member can only be reached by decompressing everything
before it. So the pass also copies the contents, one after the other, into a temporary file without a name, which
disappears with this process however it ends. Nothing is written under a member's name, and `tarfile` extracts nothing.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self, TypeVar, cast

from alexnet_core.data.archives.file_slice import open_slice
from alexnet_core.data.archives.members import ArchiveLimits, Members
from alexnet_core.data.archives.refusals import cut_off, damaged, device_among
from alexnet_core.data.archives.unpacked_stream import UnpackedStream
from alexnet_core.errors import CoreError
from alexnet_core.layout import TEMPORARY_PREFIX

_MAX_HEADER_BYTES = 64 << 10  # that belong to one member: long names and attributes
_MAX_GLOBAL_HEADERS = 100  # that hold for all members; each member gets a copy
_CHUNK_BYTES = 1 << 20
_END = bytes(tarfile.BLOCKSIZE)

R = TypeVar("R")
OnRead = Callable[[int, int], None]


class TarSource:
    """The members of a tar, as a `Source`."""

    def __init__(
        self,
        file: IO[bytes],
        magic: bytes,
        archive_bytes: int,
        limits: ArchiveLimits,
        *,
        spool_dir: Path,
        on_read: OnRead | None = None,
    ) -> None:
        """Read the headers of a tar, and of a compressed one the contents too.

        Args:
            file: the archive, seekable; closed with this.
            magic: its first bytes.
            archive_bytes: its size.
            limits: on its size, on disk too.
            spool_dir: the folder for the temporary file of a compressed one.
            on_read: see `opening.open_archive`.

        Raises:
            DatasetInvalid: it is refused.
            OSError: as from any file that is read or written.
        """
        self._members = Members(limits, "QQ")  # where the content begins, and its size
        is_compressed = not is_tar(magic)
        with ExitStack() as files:
            self._file = files.enter_context(file)
            self._contents = file
            if is_compressed:
                self._contents = files.enter_context(tempfile.TemporaryFile(dir=spool_dir, prefix=TEMPORARY_PREFIX))
            stream = _ForwardStream(UnpackedStream(file, magic, archive_bytes, limits))
            told = on_read or (lambda done, total: None)
            self._read(stream, self._contents if is_compressed else None, lambda: told(file.tell(), archive_bytes))
            self._contents.flush()
            self._files = files.pop_all()

    @property
    def paths(self) -> Sequence[str]:
        """See `Source`."""
        return self._members.paths

    def open(self, path: str) -> IO[bytes]:
        """See `Source`."""
        start, size = self._members.find(path)
        return open_slice(self._contents.fileno(), start, size)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def _read(self, stream: _ForwardStream, spool: IO[bytes] | None, tell: Callable[[], None]) -> None:
        spooled = 0
        for member in _list_members(stream):
            path = self._members.check(member.name, is_folder=member.isdir())
            if not member.isreg() or member.issparse():
                self._members.add(path, _say_what_it_is(member, path))
            elif spool is None:
                self._members.add(path, (stream.tell(), member.size))
                stream.seek(stream.tell() + member.size)  # now, so that a missing end is noticed
            else:
                stream.copy(member.size, spool, tell)
                self._members.add(path, (spooled, member.size))
                spooled += member.size
            tell()
        if stream.last_block != _END:  # tarfile takes a broken header for the end
            raise cut_off()
        if spool is not None:
            stream.drain()  # so that the checksum at its end is compared


def _list_members(stream: _ForwardStream) -> Iterator[tarfile.TarInfo]:
    """List the members by their headers; the stream is at the content of the member that was yielded."""
    stream.begin_header()
    archive = _translated(lambda: tarfile.TarFile(fileobj=cast(IO[bytes], stream), errors="surrogateescape"))
    while (member := _translated(archive.next)) is not None:
        archive.members = []  # type: ignore[attr-defined]  # it would keep all of them
        if len(archive.pax_headers) > _MAX_GLOBAL_HEADERS or member.size < 0:
            raise damaged("its headers are not those of any program that packs files")
        yield member
        stream.begin_header()


def _translated(call: Callable[[], R]) -> R:
    try:
        return call()
    except (CoreError, OSError, MemoryError):
        raise
    except Exception as exc:  # tarfile fails with many classes on damaged headers
        raise damaged(exc) from exc


def _say_what_it_is(member: tarfile.TarInfo, path: str) -> str:
    """Return why a member has no content that can be read."""
    if member.isdev():
        raise device_among(path)
    if member.issym() or member.islnk():
        return "It is a link. Pack the file that it leads to (tar: --dereference --hard-dereference)."
    if member.issparse():
        return "It is packed with holes. Pack it again, without tar's --sparse."
    return "It is a folder." if member.isdir() else "It is no file."


def is_tar(magic: bytes) -> bool:
    """Whether a file begins with the header of a tar."""
    if len(magic) < tarfile.BLOCKSIZE:
        return False
    if magic[:512] == _END:
        return True  # empty
    try:
        tarfile.TarInfo.frombuf(magic[:512], "utf-8", "surrogateescape")
    except tarfile.TarError:
        return False
    return True


class _ForwardStream:
    """The stream that `tarfile` reads from. It can't go backwards, and limits the size of headers."""

    def __init__(self, stream: UnpackedStream) -> None:
        self._stream = stream
        self._position = 0
        self._header_bytes_left = 0
        self.last_block = b""  #: of a header

    def begin_header(self) -> None:
        """Allow the headers of one more member."""
        self._header_bytes_left = _MAX_HEADER_BYTES

    def read(self, size: int) -> bytes:
        """Read a part of a header."""
        self._header_bytes_left -= size
        if size < 0 or self._header_bytes_left < 0:
            raise damaged("the headers of a member are larger than those of any program that packs files")
        data = self._stream.read(size)
        self._position += len(data)
        self.last_block = data[-tarfile.BLOCKSIZE :]
        return data

    def tell(self) -> int:
        """Return the position in the tar."""
        return self._position

    def seek(self, position: int) -> int:
        """Skip forwards to a position inside the tar."""
        if position < self._position:
            raise damaged("a member would begin before the one in front of it ends")
        self._stream.skip(position - self._position)
        self._position = position
        return position

    def drain(self) -> None:
        """Read everything that is left."""
        while self._stream.read(_CHUNK_BYTES):
            pass

    def copy(self, size: int, sink: IO[bytes], tell: Callable[[], None]) -> None:
        """Read some content and write it to a file; `tell` is called after each part."""
        while size:
            data = self._stream.read(min(size, _CHUNK_BYTES))
            if not data:
                raise cut_off()
            self._position += len(data)
            size -= len(data)
            sink.write(data)
            tell()
