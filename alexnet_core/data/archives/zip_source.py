"""Reads the members of a zip in place with `zipfile`, after a check of its directory. Torch-free."""

from __future__ import annotations

import stat
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import IO, Self

from alexnet_core.data.archives.members import ArchiveLimits, Members
from alexnet_core.data.archives.refusals import damaged, device_among, refused
from alexnet_core.data.archives.zip_directory import UTF8, require_apart, require_sane_directory
from alexnet_core.errors import CoreError, ImageUnreadable

_ENCRYPTED, _ENCRYPTED_DIRECTORY = 0x1, 0x2000  # bits of a member's flags
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)  # LZMA lets a file choose how much memory it takes
_OTHER_METHODS = {9: "Deflate64", 12: "bzip2", 14: "LZMA", 93: "Zstandard", 95: "xz", 98: "PPMd"}
_UNIX = 3
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


class ZipSource:
    """The members of a zip, as a `Source`. Threads take turns to read, and decompress at the same time."""

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
        require_sane_directory(file, archive_bytes, limits)
        self._file = file
        try:
            self._zip = zipfile.ZipFile(file)
        except (OSError, MemoryError):
            raise
        except Exception as exc:  # zipfile fails with many classes on damaged directories
            raise damaged(exc) from exc
        self._members: Members[zipfile.ZipInfo] = Members(limits)
        infos = self._zip.infolist()
        require_apart(infos, self._zip.start_dir)
        limits.require_small(sum(info.file_size for info in infos), archive_bytes)
        for info in infos:
            self._add(info)

    @property
    def paths(self) -> Sequence[str]:
        """See `Source`."""
        return self._members.paths

    @contextmanager
    def open(self, path: str) -> Iterator[IO[bytes]]:
        """See `Source`."""
        try:
            with self._zip.open(self._members.find(path)) as file:
                yield file
        except CoreError:
            raise
        except _DAMAGE as exc:
            raise ImageUnreadable(f"It is damaged in the archive ({exc!s:.100}). Pack it again.") from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()
        self._file.close()

    def _add(self, info: zipfile.ZipInfo) -> None:
        kind = stat.S_IFMT(info.external_attr >> 16) if info.create_system == _UNIX else 0
        path = self._members.check(_decode_name(info), is_folder=kind == stat.S_IFDIR)
        if info.flag_bits & (_ENCRYPTED | _ENCRYPTED_DIRECTORY):
            raise refused("archive_encrypted", "it is protected by a password. Pack the images without one")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            raise device_among(path)
        if kind == stat.S_IFLNK:
            self._members.add(path, "It is a link.")
        elif info.compress_type not in _METHODS and not path.endswith("/"):
            method = _OTHER_METHODS.get(info.compress_type, f"method {info.compress_type}")
            self._members.add(path, f"It is compressed by {method}. Pack it again, with Deflate or uncompressed.")
        else:
            self._members.add(path, info)


def _decode_name(info: zipfile.ZipInfo) -> str:
    """Return a member's name. Some programs on macOS and Linux write UTF-8 without saying so."""
    name = info.orig_filename
    if info.flag_bits & UTF8 or name.isascii():
        return name
    try:
        return name.encode("cp437").decode("utf-8")
    except UnicodeError:
        return name
