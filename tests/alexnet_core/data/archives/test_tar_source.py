"""Tars, plain and compressed, honest and hostile."""

from __future__ import annotations

import gzip
import io
import os
import resource
import subprocess
import tarfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from backports import zstd

from alexnet_core.data.archives.members import ArchiveLimits
from alexnet_core.data.archives.opening import open_archive
from alexnet_core.errors import DatasetInvalid, ImageUnreadable
from tests.alexnet_core.archive_files import (
    END_BLOCKS,
    compress,
    png,
    read_all,
    refuse,
    tar_member,
    tar_of,
    two_classes,
)
from tests.alexnet_core.data.archives.test_member_names import EVIL_NAMES

COMPRESSIONS = ["", "gz", "zst"]

LIMITS = ArchiveLimits()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "images.tar"


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_members_are_read_by_several_threads_and_nothing_is_left_behind(path: Path, how: str) -> None:
    members = {f"a/{i}.png": png(i) for i in range(60)} | {"b/empty.png": b""}
    path.write_bytes(compress(tar_of(members), how))
    with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source, ThreadPoolExecutor(4) as pool:
        assert os.listdir(path.parent) == [path.name], "the temporary file has no name"

        def read(name: str) -> bytes:
            with source.open(name) as file:
                head = file.read(10)
                file.seek(0)
                assert file.read(10) == head
                return head + file.read()

        assert list(pool.map(read, list(members) * 5)) == list(members.values()) * 5


@pytest.mark.parametrize("form", ["ustar", "gnu", "posix", "v7"])
@pytest.mark.parametrize("how", COMPRESSIONS)
def test_what_gnu_tar_writes_is_read(tmp_path: Path, form: str, how: str) -> None:
    folder = tmp_path / "images"
    names = ["cat/1.png", "dog/é 2.png", *([] if form in ("v7", "ustar") else ["cat/" + "x" * 150 + ".png"])]
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(png(number))
    path = tmp_path / "images.tar"
    subprocess.run(["tar", f"--format={form}", "-C", folder, "-cf", path, "."], check=True)
    path.write_bytes(compress(path.read_bytes(), how))
    assert read_all(path) == {name: png(number) for number, name in enumerate(names)}


def test_several_gzip_members_and_zstd_frames_are_one_archive(path: Path) -> None:
    data = tar_of(two_classes(2))
    for cut in (gzip.compress, zstd.compress):
        path.write_bytes(cut(data[:700]) + cut(data[700:]))
        assert read_all(path) == two_classes(2)


@pytest.mark.parametrize("how", COMPRESSIONS)
@pytest.mark.parametrize("name", [name for name in EVIL_NAMES if "\0" not in name], ids=lambda name: ascii(name)[:30])
def test_an_evil_name_among_good_ones_condemns_the_archive(path: Path, name: str, how: str) -> None:
    content = compress(tar_of(two_classes(2), tar_member(name, png())), how)
    assert refuse(path, content).problem == "archive_unsafe"


@pytest.mark.parametrize("kind", [tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_a_device_condemns_the_archive(path: Path, kind: bytes) -> None:
    assert refuse(path, tar_of(two_classes(2), tar_member("a/dev", kind=kind))).problem == "archive_unsafe"


@pytest.mark.parametrize("how", COMPRESSIONS)
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
@pytest.mark.parametrize("target", ["/etc/passwd", "../../../../etc/passwd", "1.png", "x/" * 120 + "../" * 120])
def test_a_link_is_never_followed(path: Path, kind: bytes, target: str, how: str) -> None:
    link = tar_member("a/link.png", kind=kind, linkname=target)
    through = tar_member("a/link.png/evil.png", b"x")
    path.write_bytes(compress(tar_of(two_classes(2), link, through), how))
    with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source:
        with pytest.raises(ImageUnreadable, match="It is a link"):
            source.open("a/link.png").__enter__()
        with source.open("a/link.png/evil.png") as file:
            assert file.read() == b"x"
    assert os.listdir(path.parent) == [path.name]


def test_what_is_no_plain_file_is_unreadable(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    with (folder / "sparse.png").open("wb") as file:
        file.truncate(1 << 30)
        file.write(b"x")
    path = tmp_path / "images.tar"
    for form in ("gnu", "posix"):
        subprocess.run(["tar", f"--format={form}", "--sparse", "-C", tmp_path, "-cf", path, "images"], check=True)
        opened = open_archive(path, limits=LIMITS, spool_dir=tmp_path)
        with opened as source, pytest.raises(ImageUnreadable, match="packed with holes"):
            source.open("images/sparse.png").__enter__()


def test_of_two_files_of_one_name_neither_is_taken(path: Path) -> None:
    path.write_bytes(tar_of({"a/1.png": b"x"}, tar_member("./a/1.png", b"y")))
    opened = open_archive(path, limits=LIMITS, spool_dir=path.parent)
    with opened as source, pytest.raises(ImageUnreadable, match="two files of this name"):
        source.open("a/1.png").__enter__()


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_the_reading_of_a_large_tar_is_told_and_can_be_ended(path: Path, how: str) -> None:
    path.write_bytes(compress(tar_of({f"a/{i}.png": os.urandom(3 << 20) for i in range(3)}), how))
    seen: list[tuple[int, int]] = []
    with open_archive(path, limits=LIMITS, spool_dir=path.parent, on_read=lambda *pair: seen.append(pair)):
        pass
    assert len(seen) >= (9 if how else 3)
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {path.stat().st_size}

    def stop(done: int, total: int) -> None:
        raise ValueError("enough")

    opened = open_archive(path, limits=LIMITS, spool_dir=path.parent, on_read=stop)
    with pytest.raises(ValueError, match="enough"), opened:
        pass
    assert os.listdir(path.parent) == [path.name]


# --- bombs ---


@pytest.mark.parametrize("how", ["gz", "zst"])
def test_a_bomb_ends_soon_and_takes_little_memory(path: Path, how: str) -> None:
    """Two gigabytes of zeros in two megabytes or less."""
    head = tar_member("a/1.bmp", size=2 << 30)
    chunk = bytes(1 << 20)
    if how == "gz":
        with gzip.open(path, "wb", compresslevel=1) as file:
            file.write(head)
            for _ in range(2048):
                file.write(chunk)
    else:
        with zstd.ZstdFile(path, "w") as file:
            file.write(head)
            for _ in range(2048):
                file.write(chunk)
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(DatasetInvalid) as exc:
        read_all(path)
    assert exc.value.problem == "archive_bomb"
    assert time.process_time() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


def test_a_long_name_of_gigabytes_takes_no_memory(path: Path) -> None:
    """`tarfile` would read a name of any length, and a bomb has room for it."""
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE, tarfile.XGLTYPE):
        head = tarfile.TarInfo("x")
        head.type, head.size = kind, 1 << 30
        path.write_bytes(gzip.compress(head.tobuf(tarfile.GNU_FORMAT) + bytes(40 << 20), 1))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(DatasetInvalid) as exc:
            read_all(path)
        assert exc.value.problem == "archive_damaged"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000


def test_many_members_are_refused(path: Path) -> None:
    limits = ArchiveLimits(max_entries=1000)
    content = b"".join(tar_member(f"a/{i}.png") for i in range(1001)) + END_BLOCKS
    assert refuse(path, content, limits).problem == "archive_too_large"
    assert refuse(path, compress(content, "gz"), limits).problem == "archive_too_large"


def test_more_bytes_than_are_allowed_are_refused(path: Path) -> None:
    noise = os.urandom(1 << 20)
    content = compress(tar_of({"a/1.png": noise, "a/2.png": noise}), "zst")
    assert refuse(path, content, ArchiveLimits(max_unpacked_bytes=1 << 20)).problem == "archive_too_large"


def test_a_window_of_gigabytes_is_refused(path: Path) -> None:
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 31,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    error = refuse(path, compressor.compress(tar_of(two_classes(2))) + compressor.flush())
    assert error.problem == "archive_damaged"


def test_another_archive_within_is_refused(path: Path) -> None:
    assert refuse(path, tar_of({**two_classes(2), "a/inner.tar": b"x"})).problem == "archive_nested"


# --- damage ---


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_a_tar_that_was_cut_off_anywhere_is_an_answer(path: Path, how: str) -> None:
    whole = compress(tar_of({"a/1.png": os.urandom(700), "b/2.png": b"x"}), how)
    ends = range(len(whole) - (1024 if how == "" else 0)) if how else range(0, len(whole) - 1024, 37)
    for end in [*ends][:: 7 if how else 1]:
        assert refuse(path, whole[:end]).problem in {"archive_damaged", "archive_unsupported"}, end


def test_a_broken_header_in_the_middle_is_no_end(path: Path) -> None:
    """`tarfile` stops there without a word, and the images behind it would be missing."""
    members = [tar_member(f"a/{i}.png", b"x") for i in range(3)]
    content = members[0] + b"\1" * 512 + members[1] + END_BLOCKS
    assert refuse(path, content).problem == "archive_damaged"


def test_a_member_of_negative_size_is_refused(path: Path) -> None:
    """With one, `tarfile` of some versions goes round for ever (CVE-2025-8194)."""
    info = tarfile.TarInfo("a/1.png")
    buffer = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    buffer[124:136] = b"\xff" * 11 + b"\x00"  # a number of base 256, below 0
    buffer[148:156] = b"        "
    buffer[148:156] = b"%06o\0 " % sum(buffer)
    path.write_bytes(bytes(buffer) + END_BLOCKS)
    assert refuse(path, path.read_bytes()).problem == "archive_damaged"
    info.pax_headers = {"size": "-512"}
    assert refuse(path, info.tobuf(tarfile.PAX_FORMAT) + END_BLOCKS).problem == "archive_damaged"


def test_many_attributes_for_all_members_are_refused(path: Path) -> None:
    headers = {f"x{i}": "y" for i in range(200)}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", pax_headers=headers) as archive:
        archive.addfile(tarfile.TarInfo("a/1.png"))
    assert refuse(path, buffer.getvalue()).problem == "archive_damaged"


@pytest.mark.parametrize("how", COMPRESSIONS)
def test_a_tar_with_any_byte_changed_is_read_or_refused(path: Path, how: str) -> None:
    whole = compress(tar_of({"a/1.png": b"hello", "b/2.png": b"x"}), how)
    for position in range(0, len(whole), 1 if how else 3):
        spoiled = bytearray(whole)
        spoiled[position] ^= 0x41
        path.write_bytes(spoiled)
        with suppress(DatasetInvalid, ImageUnreadable):
            read_all(path)
