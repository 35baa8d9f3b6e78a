"""Finds the directory of a zip and checks it before it is used: its size, and that it is consistent. Torch-free.

The entries are counted, whatever number of them the zip claims to have. A directory that two programs could read in two
ways is refused, because no program that packs images writes one. PKWARE's APPNOTE 6.3.10, section 4.3, has the records.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import IO

from alexnet_core.data.archives.members import ArchiveLimits
from alexnet_core.data.archives.refusals import cut_off, damaged, refused
from alexnet_core.data.archives.zip_entries import read_entries

MAX_ENTRY_BYTES = 512  #: of the directory, on average; an entry with a name of 100 bytes takes 170
_END = struct.Struct("<4s4H2IH")
_END_64_LOCATOR = struct.Struct("<4sIQI")
_END_64 = struct.Struct("<4sQ2H2I4Q")
MAX_END_BYTES = _END.size + 65_535  #: of the record at the end, its comment included
END_OF_ZIP = b"PK\5\6"  #: that record's first bytes


@dataclass(frozen=True)
class Directory:
    """The place of a zip's directory, and the number of its entries."""

    start: int
    size_bytes: int
    num_entries: int


def read_directory(file: IO[bytes], archive_bytes: int, limits: ArchiveLimits) -> tuple[Directory, bytes]:
    """Return the place of a zip's directory, and its content. Refuse one that is too large or contradicts itself.

    Args:
        file: the zip, seekable.
        archive_bytes: its size.
        limits: for the number of entries.

    Raises:
        DatasetInvalid: `archive_damaged`, `archive_too_large`.
    """
    directory = _find_directory(file, archive_bytes)
    limits.require_few(directory.num_entries)
    if directory.size_bytes > MAX_ENTRY_BYTES * (directory.num_entries + 100):
        raise refused(
            "archive_too_large",
            f"its list of members has {directory.size_bytes:,} bytes. Pack fewer images, with shorter names",
        )
    content = _read(file, directory.start, directory.size_bytes)
    _require_entries(content, directory, limits)
    return directory, content


def _find_directory(file: IO[bytes], archive_bytes: int) -> Directory:
    tail_start = max(0, archive_bytes - MAX_END_BYTES)
    file.seek(tail_start)
    tail = file.read()
    at = tail.rfind(END_OF_ZIP)
    if at < 0 or len(tail) - at < _END.size:
        raise cut_off()
    _, disk, first_disk, on_disk, num_entries, size, start, comment_bytes = _END.unpack_from(tail, at)
    if at + _END.size + comment_bytes != len(tail):
        raise damaged("there are bytes behind its end")
    end = tail_start + at
    locator_at = end - _END_64_LOCATOR.size
    if locator_at >= 0 and (locator := _read(file, locator_at, _END_64_LOCATOR.size)).startswith(b"PK\6\7"):
        return _find_directory_64(file, locator_at, locator, (num_entries, size, start))
    if disk or first_disk or on_disk != num_entries:
        raise damaged("it is one part of several")
    return _at(start, size, num_entries, end)


def _find_directory_64(file: IO[bytes], locator_at: int, locator: bytes, short: tuple[int, int, int]) -> Directory:
    """Find the directory by the zip64 record. A number in the other record must be the same, or refer to this one."""
    _, disk, record_at, num_disks = _END_64_LOCATOR.unpack(locator)
    if record_at != locator_at - _END_64.size:
        raise damaged("its zip64 record is not where it should be")
    record = _read(file, record_at, _END_64.size)
    signature, size_of_record, _, _, own_disk, first_disk, on_disk, num_entries, size, start = _END_64.unpack(record)
    if signature != b"PK\6\6" or size_of_record != _END_64.size - 12:
        raise damaged("its zip64 record is broken")
    if disk or own_disk or first_disk or num_disks > 1 or on_disk != num_entries:
        raise damaged("it is one part of several")
    elsewhere = (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)
    for said, other, long in zip(short, elsewhere, (num_entries, size, start), strict=True):
        if said not in (other, long):
            raise damaged("its two ends say different things")
    return _at(start, size, num_entries, record_at)


def _at(start: int, size: int, num_entries: int, end: int) -> Directory:
    if start + size != end:
        raise damaged("its list of members is not where it should be")
    return Directory(start, size, num_entries)


def _require_entries(content: bytes, directory: Directory, limits: ArchiveLimits) -> None:
    """Go through the entries, and require as many as the zip claims to have."""
    num_entries = 0
    for _ in read_entries(content):
        num_entries += 1
        limits.require_few(num_entries)
    if num_entries != directory.num_entries:
        raise damaged(f"it says that it has {directory.num_entries:,} members, and lists {num_entries:,}")


def _read(file: IO[bytes], position: int, size: int) -> bytes:
    file.seek(position)
    data = file.read(size)
    if len(data) < size:
        raise cut_off()
    return data
