"""Reads the entries of a zip's directory one by one, in little memory, and finds members that overlap. Torch-free.

`zipfile` would make an object of every entry and keep it: half a kilobyte a member. PKWARE's APPNOTE 6.3.10, section
4.3.12, has the fields of an entry, and 4.5.3 those of a large one.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np

from alexnet_core.data.archives.refusals import damaged, refused

UTF8 = 0x800  #: in the flags: the name is UTF-8
LOCAL_HEADER = struct.Struct("<4s22x2H")  #: of a member: signature, then the sizes of name and extra field
_ENTRY = struct.Struct("<4sxB2x2H4x3I3H4x2I")
_SIGNATURE = b"PK\1\2"
_ZIP64 = 1  # the id of the extra field with the numbers of a large member
_ELSEWHERE = 0xFFFFFFFF  # such a number stands there


class ZipEntry(NamedTuple):
    """One entry of the directory: what it says of its member."""

    name: bytes
    system: int  #: that the zip was made on
    flags: int
    method: int  #: of compression
    crc: int
    packed_bytes: int
    unpacked_bytes: int
    attributes: int  #: of the file
    start: int  #: of the member's own header


def show_name(name: bytes, flags: int) -> str:
    """Return a member's name as text. Some programs on macOS and Linux write UTF-8 without saying so.

    Raises:
        DatasetInvalid: it is said to be UTF-8, and is not.
    """
    try:
        return name.decode()
    except UnicodeError as exc:
        if flags & UTF8:
            raise damaged(exc) from exc
        return name.decode("cp437")


def read_entries(directory: bytes) -> Iterator[ZipEntry]:
    """Read the entries of a directory.

    Raises:
        DatasetInvalid: it is damaged.
    """
    position = 0
    while position < len(directory):
        try:
            (
                signature,
                system,
                flags,
                method,
                crc,
                packed,
                unpacked,
                name_bytes,
                extra_bytes,
                comment_bytes,
                mode,
                start,
            ) = _ENTRY.unpack_from(directory, position)
        except struct.error as exc:
            raise damaged("its list of members is cut off") from exc
        if signature != _SIGNATURE:
            raise damaged("its list of members is broken")
        name_at = position + _ENTRY.size
        extra_at = name_at + name_bytes
        position = extra_at + extra_bytes + comment_bytes
        if position > len(directory):
            raise damaged("its list of members is cut off")
        if extra_bytes:
            numbers = _find_large((unpacked, packed, start), directory[extra_at : extra_at + extra_bytes])
            unpacked, packed, start = numbers
        name = directory[name_at:extra_at]
        yield ZipEntry(name, system, flags, method, crc, packed, unpacked, mode, start)


def require_apart(directory: bytes, num_entries: int, end: int) -> int:
    """Refuse a zip whose members overlap, because then a few bytes unpack to very many.

    Args:
        directory: its entries.
        num_entries: how many they are.
        end: where the last member must end.

    Returns:
        The bytes that all members unpack to.

    Raises:
        DatasetInvalid: `archive_bomb`, `archive_damaged`.
    """
    starts, ends = (np.zeros(num_entries, dtype=np.uint64) for _ in range(2))
    unpacked_bytes = 0
    for number, entry in enumerate(read_entries(directory)):
        unpacked_bytes += entry.unpacked_bytes
        shortest = entry.start + LOCAL_HEADER.size + len(entry.name) + entry.packed_bytes
        starts[number], ends[number] = min(entry.start, end), min(shortest, end + 1)
    order = np.argsort(starts, kind="stable")
    limits = np.append(starts[order][1:], np.uint64(end))
    for number in order[ends[order] > limits][:1].tolist():
        name = next(islice(read_entries(directory), number, None)).name[:120].decode(errors="replace")
        raise refused("archive_bomb", f"the bytes of {name!a} overlap those of another member. Pack again")
    return unpacked_bytes


def _find_large(numbers: tuple[int, int, int], extra: bytes) -> tuple[int, ...]:
    """Return the numbers, those that are too large for their fields from the extra field.

    Raises:
        DatasetInvalid: they are not there, or an extra field is cut off.
    """
    position = 0
    while position + 4 <= len(extra):
        kind, size = struct.unpack_from("<2H", extra, position)
        position += 4
        if position + size > len(extra):
            raise damaged("an extra field of a member is cut off")
        if kind == _ZIP64:
            large = iter(struct.unpack_from(f"<{size // 8}Q", extra, position))
            try:
                return tuple(next(large) if number == _ELSEWHERE else number for number in numbers)
            except RuntimeError as exc:  # a StopIteration within a generator
                raise damaged("the size of a large member is missing") from exc
        position += size
    return numbers
