"""Reads the members of a zip in place, after a check of its directory. Torch-free.

`zipfile` decompresses them and compares their checksums; the directory is read here, since `zipfile` keeps half a
kilobyte of every member in memory.
"""

from __future__ import annotations

import io
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Self, cast

from alexnet_core.data.archives.file_slice import open_slice
from alexnet_core.data.archives.member_names import clean_path
from alexnet_core.data.archives.members import ArchiveLimits, Members
from alexnet_core.data.archives.refusals import device_among, refused
from alexnet_core.data.archives.zip_directory import read_directory
from alexnet_core.data.archives.zip_entries import LOCAL_HEADER, ZipEntry, read_entries, require_apart, show_name
from alexnet_core.errors import CoreError, DatasetInvalid, ImageUnreadable

_ENCRYPTED, _ENCRYPTED_DIRECTORY = 0x1, 0x2000  # bits of a member's flags
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # LZMA lets a file choose how much memory it takes
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd"}
_PATCH = 0x20  # likewise: the content is a difference from another file
_UNIX = 3
_HEADER_BYTES = 256  # that are read of a member at first: its header, its name and mostly its extra field
_SMALL_BYTES = 1 << 17  # of a member that is read in one piece
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class ZipSource:
    """The members of a zip, as a `Source`. Threads read and decompress at the same time."""

    def __init__(self, file: IO[bytes], archive_bytes: int, limits: ArchiveLimits) -> None:
        """Read the directory of a zip and check it.

        Args:
            file: the zip, seekable; closed with this.
            archive_bytes: its size.
            limits: on its size.

        Raises:
            DatasetInvalid: it is refused.
            OSError: as from any file that is read.
        """
        directory, entries = read_directory(file, archive_bytes, limits)
        self._file = file
        self._members = Members(limits, "QQQIHH")  # the arguments of `_open`
        limits.require_small(require_apart(entries, directory.num_entries, directory.start), archive_bytes)
        for entry in read_entries(entries):
            self._add(entry)

    @property
    def paths(self) -> Sequence[str]:
        """See `Source`."""
        return self._members.paths

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """See `Source`."""
        try:
            with self._open(path, *self._members.find(path)) as file:
                yield file
        except CoreError:
            raise
        except _DAMAGE as exc:
            raise ImageUnreadable(f"It is damaged in the archive ({exc!s:.100}). Pack it again.") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def _open(
        self, path: str, start: int, packed_bytes: int, unpacked_bytes: int, crc: int, method: int, flags: int
    ) -> IO[bytes]:
        """Open a member behind its own header.

        Raises:
            BadZipFile: that header is not the one of this member.
        """
        descriptor = self._file.fileno()
        header = os.pread(descriptor, _HEADER_BYTES, start)  # with the name, if that is not very long
        if len(header) < LOCAL_HEADER.size:
            raise zipfile.BadZipFile("its header is cut off")
        signature, name_bytes, extra_bytes = LOCAL_HEADER.unpack_from(header)
        name = header[LOCAL_HEADER.size : LOCAL_HEADER.size + name_bytes]
        if len(name) < name_bytes:
            name = os.pread(descriptor, name_bytes, start + LOCAL_HEADER.size)
        if signature != b"PK\3\4" or not _is_name_of(path, name, flags):
            raise zipfile.BadZipFile("its header is another one's")
        content_at = start + LOCAL_HEADER.size + name_bytes + extra_bytes
        if packed_bytes <= _SMALL_BYTES and unpacked_bytes <= _SMALL_BYTES:
            content = _unpack(os.pread(descriptor, packed_bytes, content_at), unpacked_bytes, method)
            if len(content) == unpacked_bytes and zlib.crc32(content) == crc:
                return io.BytesIO(content)  # what `zipfile` gives, in a quarter of the time; it explains any damage
        info = zipfile.ZipInfo(path)
        info.compress_type, info.flag_bits, info.CRC = method, flags, crc
        info.compress_size, info.file_size = packed_bytes, unpacked_bytes
        packed = open_slice(descriptor, content_at, packed_bytes)
        return cast(IO[bytes], zipfile.ZipExtFile(cast("zipfile._ClosableZipStream", packed), "r", info, None, True))

    def _add(self, entry: ZipEntry) -> None:
        kind = stat.S_IFMT(entry.attributes >> 16) if entry.system == _UNIX else 0
        path = self._members.check(show_name(entry.name, entry.flags), is_folder=kind == stat.S_IFDIR)
        if entry.flags & (_ENCRYPTED | _ENCRYPTED_DIRECTORY):
            raise refused("archive_encrypted", "it is protected by a password. Pack the images without one")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise device_among(path)
        if kind == stat.S_IFLNK:
            self._members.add(path, "It is a link.")
        elif entry.method not in _METHODS and not path.endswith("/"):
            method = _OTHER_METHODS.get(entry.method, f"method {entry.method}")
            self._members.add(path, f"It is compressed by {method}. Pack it again, with Deflate or uncompressed.")
        elif entry.flags & _PATCH:
            self._members.add(path, "It is a difference from another file. Pack the file itself.")
        else:
            place = (entry.start, entry.packed_bytes, entry.unpacked_bytes, entry.crc, entry.method, entry.flags)
            self._members.add(path, place)


def _unpack(packed: bytes, unpacked_bytes: int, method: int) -> bytes:
    """Return the content of a member, but not more than it has by the directory.

    Raises:
        zlib.error: it is damaged.
    """
    if method == zipfile.ZIP_STORED:
        return packed
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, max(1, unpacked_bytes))  # 0: any number


def _is_name_of(path: str, name: bytes, flags: int) -> bool:
    """Whether a name in a member's own header is that of the directory."""
    if name.isascii() and name.decode() == path:
        return True
    try:
        return clean_path(show_name(name, flags)) == path
    except DatasetInvalid:
        return False
