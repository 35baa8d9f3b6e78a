"""The entries of a zip's directory are what `zipfile` reads in it, without an object for each."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest

from alexnet_core.data.archives.zip_entries import read_entries, require_apart, show_name
from alexnet_core.errors import DatasetInvalid, ImageUnreadable
from tests.alexnet_core.archive_files import Entry, png, raw_zip, read_all, refuse, two_classes, zip_of


def directory_of(archive: bytes) -> bytes:
    count, size, start = struct.unpack("<H2I", archive[-12:-2])
    assert count
    return archive[start : start + size]


def test_entries_say_what_zipfile_reads() -> None:
    archive = zip_of(two_classes(5) | {"c/é.png": png(), "c/": b""})
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        expected = [
            (it.orig_filename, it.create_system, it.flag_bits, it.compress_type, it.CRC, it.compress_size,
             it.file_size, it.external_attr, it.header_offset)
            for it in opened.infolist()
        ]  # fmt: skip
    assert [
        (show_name(entry.name, entry.flags), *entry[1:]) for entry in read_entries(directory_of(archive))
    ] == expected


def large(extra: bytes, *, unpacked: int = 0xFFFFFFFF, packed: int = 5) -> bytes:
    """An entry with an extra field."""
    plain = bytearray(Entry(b"a/1.png", method=0, says_packed=packed, says_unpacked=unpacked).central(0))
    plain[30:32] = struct.pack("<H", len(extra))
    return bytes(plain) + extra


def test_numbers_of_large_members_are_in_the_extra_field() -> None:
    other = struct.pack("<2HI", 0x5455, 4, 7)
    [entry] = read_entries(large(other + struct.pack("<2HQ", 1, 8, 2**40)))
    assert (entry.unpacked_bytes, entry.packed_bytes, entry.start) == (2**40, 5, 0)
    [entry] = read_entries(large(struct.pack("<2H2Q", 1, 16, 2**40, 2**39), packed=0xFFFFFFFF))
    assert (entry.unpacked_bytes, entry.packed_bytes) == (2**40, 2**39)


@pytest.mark.parametrize(
    "extra", [struct.pack("<2H", 1, 0), struct.pack("<2HI", 1, 4, 9), struct.pack("<2HQ", 1, 200, 9)]
)
def test_a_large_number_that_is_missing_is_refused(extra: bytes) -> None:
    with pytest.raises(DatasetInvalid) as exc:
        list(read_entries(large(extra)))
    assert exc.value.problem == "archive_damaged"


def test_members_may_touch_but_not_overlap() -> None:
    archive = zip_of(two_classes(3))
    directory = directory_of(archive)
    end = archive.index(directory)
    assert require_apart(directory, 6, end) == sum(len(content) for content in two_classes(3).values())
    with pytest.raises(DatasetInvalid, match="overlap"):
        require_apart(directory, 6, end - 1)


@pytest.mark.parametrize("name", [b"b/9.png", b"../evil", b"a/1.PNG", b"/tmp/ev"])
def test_a_member_whose_own_header_is_another_ones_is_unreadable(tmp_path: Path, name: bytes) -> None:
    first, second = Entry(b"a/1.png", png(1)), Entry(b"a/2.png", png(2))
    archive = bytearray(raw_zip([first, second]))
    archive[30:37] = name
    (tmp_path / "x.zip").write_bytes(archive)
    with pytest.raises(ImageUnreadable, match="header is another one's"):
        read_all(tmp_path / "x.zip")


def test_a_name_that_says_it_is_utf8_and_is_not_is_refused(tmp_path: Path) -> None:
    error = refuse(tmp_path / "x.zip", raw_zip([Entry(b"a/\xff.png", png(), flags=0x800)]))
    assert error.problem == "archive_damaged"
