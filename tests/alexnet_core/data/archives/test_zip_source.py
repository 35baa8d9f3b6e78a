"""Zips, honest and hostile."""

from __future__ import annotations

import random
import resource
import stat
import struct
import time
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from alexnet_core.data.archives.members import ArchiveLimits
from alexnet_core.data.archives.opening import open_archive
from alexnet_core.errors import DatasetInvalid, ImageUnreadable
from tests.alexnet_core.archive_files import (
    Entry,
    end_of_zip,
    end_of_zip64,
    honest_entries,
    png,
    raw_zip,
    read_all,
    refuse,
    two_classes,
    zip_of,
)

LIMITS = ArchiveLimits()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images.zip"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_read_in_place_by_several_threads(path: Path, method: int) -> None:
    members = {f"a/{i}.png": png(i) for i in range(60)}
    path.write_bytes(zip_of(members, method))
    with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source, ThreadPoolExecutor(4) as pool:

        def read(name: str) -> bytes:
            with source.open(name) as file:
                head = file.read(10)
                file.seek(0)
                assert file.read(10) == head
                return head + file.read()

        assert list(pool.map(read, list(members) * 5)) == list(members.values()) * 5
    assert [entry.name for entry in path.parent.iterdir()] == ["images.zip"]


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_small_and_large_members_with_short_and_long_names_are_read(path: Path, method: int) -> None:
    """Those of up to 128 kB are read in one piece."""
    sizes = [0, 1, (1 << 17) - 1, 1 << 17, (1 << 17) + 1, 300_000]
    noise = random.Random(0).randbytes(max(sizes))
    members = {
        f"{'/'.join(folders)}/{size}.png": noise[:size] for size in sizes for folders in (["a"], ["b" * 200] * 2)
    }
    path.write_bytes(zip_of(members, method))
    assert read_all(path) == members


def test_what_python_writes_as_zip64_is_read(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive, archive.open("a/1.png", "w", force_zip64=True) as file:
        file.write(png())
    assert read_all(path) == {"a/1.png": png()}
    entries = honest_entries(2)
    body = b"".join(entry.local() for entry in entries)
    offsets = [sum(len(it.local()) for it in entries[:i]) for i in range(len(entries))]
    central = b"".join(entry.central(offset) for entry, offset in zip(entries, offsets, strict=True))
    at = len(body) + len(central)
    path.write_bytes(body + central + end_of_zip64(len(entries), len(central), len(body), at))
    assert read_all(path) == two_classes(2)


def test_names_in_utf8_are_understood_with_and_without_the_flag(path: Path) -> None:
    marked, unmarked, old = "é/1.png".encode(), "日本/2.png".encode(), "ä/3.png".encode("cp437")
    path.write_bytes(raw_zip([Entry(marked, b"1", flags=0x800), Entry(unmarked, b"2"), Entry(old, b"3")]))
    assert read_all(path) == {"é/1.png": b"1", "日本/2.png": b"2", "ä/3.png": b"3"}
    assert refuse(path, raw_zip([Entry(b"\xff\xfe/1.png", b"1", flags=0x800)])).problem == "archive_damaged"


def test_an_evil_name_among_good_ones_condemns_the_archive(path: Path) -> None:
    for name in (b"../evil.png", b"/evil.png", b"a\\b.png", b"a/x\0.png", b"C:/x.png", b"nul/x.png"):
        assert refuse(path, raw_zip([*honest_entries(), Entry(name, png())])).problem == "archive_unsafe"


def test_a_link_is_no_file_and_a_device_condemns_the_archive(path: Path) -> None:
    link = Entry(b"a/link.png", b"/etc/passwd", mode=stat.S_IFLNK | 0o777)
    path.write_bytes(raw_zip([*honest_entries(), link]))
    with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source:
        assert "a/link.png" in source.paths
        with pytest.raises(ImageUnreadable, match="It is a link"), source.open("a/link.png"):
            pass
    for kind in (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK):
        assert refuse(path, raw_zip([Entry(b"a/dev", mode=kind)])).problem == "archive_unsafe"


def test_an_encrypted_zip_is_named_as_such(path: Path) -> None:
    error = refuse(path, raw_zip([Entry(b"a/1.png", b"x", flags=1)]))
    assert (error.problem, "password" in str(error)) == ("archive_encrypted", True)


def test_a_member_in_another_method_is_rejected_with_its_name(path: Path) -> None:
    path.write_bytes(raw_zip([Entry(b"a/1.png", b"x", method=14), Entry(b"a/2.png", b"y")]))
    with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source:
        with pytest.raises(ImageUnreadable, match="compressed by LZMA"), source.open("a/1.png"):
            pass
        with source.open("a/2.png") as file:
            assert file.read() == b"y"


def test_a_damaged_member_is_unreadable_and_the_others_are_not(path: Path) -> None:
    members = {"a/1.png": bytes(5000), "a/2.png": png(2)}
    content = bytearray(zip_of(members, zipfile.ZIP_STORED))
    content[100] ^= 1
    path.write_bytes(content)
    with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source:
        with pytest.raises(ImageUnreadable, match="damaged in the archive"), source.open("a/1.png") as file:
            file.read()
        with source.open("a/2.png") as file:
            assert file.read() == members["a/2.png"]


def test_of_two_files_of_one_name_neither_is_taken(path: Path) -> None:
    path.write_bytes(raw_zip([Entry(b"a/1.png", b"x"), Entry(b"./a/1.png", b"y"), Entry(b"a/2.png", b"z")]))
    with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source:
        assert list(source.paths) == ["a/1.png", "a/2.png"]
        with pytest.raises(ImageUnreadable, match="two files of this name"), source.open("a/1.png"):
            pass


# --- bombs ---


def test_a_bomb_by_ratio_is_refused_by_its_directory(path: Path) -> None:
    error = refuse(path, zip_of({"a/1.bmp": bytes(70 << 20)}))
    assert error.problem == "archive_bomb"
    path.write_bytes(zip_of({"a/1.bmp": bytes(60 << 20)}))
    assert len(read_all(path)["a/1.bmp"]) == 60 << 20, "small archives may have any ratio"


def test_members_that_share_bytes_are_refused(path: Path) -> None:
    entry = Entry(b"a/0.png", bytes(1 << 20))
    twins = [Entry(f"a/{i}.png".encode(), entry.content, says_offset=0) for i in range(200)]
    central = b"".join(twin.central(0) for twin in twins)
    body = entry.local()
    error = refuse(path, body + central + end_of_zip(len(twins), len(central), len(body)))
    assert (error.problem, "overlap" in str(error)) == ("archive_bomb", True)
    inner = Entry(b"a/2.png", bytes(1 << 20))
    outer = Entry(b"a/1.png", inner.local(), method=0)  # its bytes are the other one's header and bytes
    start = len(outer.local()) - len(inner.local())
    central = outer.central(0) + inner.central(start)
    error = refuse(path, outer.local() + central + end_of_zip(2, len(central), len(outer.local())))
    assert error.problem == "archive_bomb"


def test_a_size_that_is_a_lie_gives_no_more_than_it_says(path: Path) -> None:
    path.write_bytes(raw_zip([Entry(b"a/small.bmp", bytes(50 << 20), says_unpacked=100), Entry(b"a/1.png", png())]))
    opened = open_archive(path, limits=LIMITS, spool_dir=path.parent)
    with opened as source, pytest.raises(ImageUnreadable), source.open("a/small.bmp") as file:
        file.read()
    path.write_bytes(raw_zip([Entry(b"a/large.bmp", b"x", says_unpacked=1 << 20)]))
    with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source, source.open("a/large.bmp") as file:
        assert file.read() == b"x"
    assert refuse(path, raw_zip([Entry(b"a/1.png", b"x", says_unpacked=4_000_000_000)])).problem == "archive_bomb"
    assert refuse(path, raw_zip([Entry(b"a/1.png", b"x", says_packed=4_000_000_000)])).problem == "archive_bomb"


def test_a_member_said_to_be_empty_is_not_unpacked(path: Path) -> None:
    path.write_bytes(raw_zip([Entry(b"a/none.bmp", bytes(50 << 20), says_unpacked=0), Entry(b"a/1.png", png())]))
    with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source:
        tracemalloc.start()
        with suppress(ImageUnreadable), source.open("a/none.bmp") as file:
            assert file.read(1000) == b""
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 1 << 20


def test_entries_are_counted_before_zipfile_makes_objects_of_them(path: Path) -> None:
    """Neither a number that is true nor one that is a lie takes memory or time."""
    entry = Entry(b"a/1")
    central = entry.central(0) * 1_000_000
    at = len(entry.local()) + len(central)
    honest = entry.local() + central + end_of_zip64(1_000_000, len(central), len(entry.local()), at)
    lie = entry.local() + central + end_of_zip(1, len(central), len(entry.local()))
    for content in (honest, lie):
        path.write_bytes(content)
        before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
        with pytest.raises(DatasetInvalid) as exc:
            read_all(path)
        assert exc.value.problem == "archive_too_large"
        assert time.process_time() - started < 2
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB
    few = ArchiveLimits(max_entries=3)
    assert refuse(path, raw_zip(honest_entries(2)), few).problem == "archive_too_large"
    assert refuse(path, zip_of({f"a/{i}/": b"" for i in range(4)}), few).problem == "archive_too_large"


def test_another_archive_within_is_refused(path: Path) -> None:
    for name in ("lib 0.zip", "a/more.TAR.GZ", "x.7z"):
        error = refuse(path, zip_of({**two_classes(2), name: b"PK"}))
        assert (error.problem, "Unpack that one" in str(error)) == ("archive_nested", True)


def test_more_bytes_than_are_allowed_are_refused(path: Path) -> None:
    content = zip_of(two_classes(2), zipfile.ZIP_STORED)
    assert refuse(path, content, ArchiveLimits(max_unpacked_bytes=1000)).problem == "archive_too_large"


# --- ends that are missing or tell two stories ---


@pytest.mark.parametrize("cut", [1, 21, 22, 40, 300, -4])
def test_a_zip_that_was_cut_off_is_an_answer(path: Path, cut: int) -> None:
    whole = zip_of(two_classes(3))
    error = refuse(path, whole[:-cut])
    assert (error.problem, "Send the whole file" in str(error)) == ("archive_damaged", True)


def lies() -> dict[str, bytes]:
    entries = honest_entries(2)
    body = b"".join(entry.local() for entry in entries)
    offsets = [sum(len(it.local()) for it in entries[:i]) for i in range(len(entries))]
    central = b"".join(entry.central(offset) for entry, offset in zip(entries, offsets, strict=True))
    count, size, start = len(entries), len(central), len(body)
    at = start + size
    honest = end_of_zip(count, size, start)
    zip64 = end_of_zip64(count, size, start, at)
    return {
        "more members than there are": body + central + end_of_zip(count + 1, size, start),
        "fewer members than there are": body + central + end_of_zip(count - 1, size, start),
        "a list elsewhere": body + central + end_of_zip(count, size, start - 7),
        "a larger list": body + central + end_of_zip(count, size + 1, start),
        "bytes behind the end": body + central + honest + b"more",
        "a second end in the comment": body + central + end_of_zip(count, size, start, honest),
        "several disks": body + central + honest[:4] + struct.pack("<HH", 1, 1) + honest[8:],
        "a broken entry": body + b"PK\1\3" + central[4:] + honest,
        "an entry that reaches beyond": body + central[:28] + b"\xff\xff" + central[30:] + honest,
        "zip64 elsewhere": body + central + end_of_zip64(count, size, start, at - 1),
        "zip64 of another number": body + central + end_of_zip64(count + 1, size, start, at),
        "zip64 that contradicts": body + central + zip64[:-22] + end_of_zip(count - 1, size, start),
        "zip64 without a record": body + central + bytes(56) + zip64[56:],
        "zip64 of endless size": body + central + end_of_zip64(2**63, 2**63, 2**63, at),
        "something in front": b"PK\3\4" + bytes(100) + body + central + honest,
    }


@pytest.mark.parametrize("lie", lies())
def test_a_directory_that_can_be_read_in_two_ways_is_refused(path: Path, lie: str) -> None:
    error = refuse(path, lies()[lie])
    assert error.problem in {"archive_damaged", "archive_too_large"}


def test_a_comment_is_no_lie(path: Path) -> None:
    entry = Entry(b"a/1.png", png())
    central = entry.central(0)
    path.write_bytes(entry.local() + central + end_of_zip(1, len(central), len(entry.local()), b"made by hand"))
    assert read_all(path) == {"a/1.png": png()}


def test_a_zip_with_any_byte_changed_is_read_or_refused(path: Path) -> None:
    """Never anything but an answer: a change of each byte of a small zip, in two ways."""
    whole = zip_of({"a/1.png": b"hello hello hello", "b/2.png": b"x"})
    for position in range(len(whole)):
        for change in (0xFF, 0x01):
            spoiled = bytearray(whole)
            spoiled[position] ^= change
            path.write_bytes(spoiled)
            with suppress(DatasetInvalid, ImageUnreadable):
                read_all(path)
