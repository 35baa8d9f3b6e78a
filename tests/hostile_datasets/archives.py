"""Archives that attack who unpacks them, contradict themselves, are damaged, or are none."""

from __future__ import annotations

import bz2
import gzip
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial

from backports import zstd

from tests.alexnet_core.archive_files import (
    END_BLOCKS,
    Entry,
    compress,
    end_of_zip,
    end_of_zip64,
    png,
    raw_zip,
    tar_member,
    tar_of,
    zip_of,
)
from tests.alexnet_core.data.archives.test_member_names import EVIL_NAMES
from tests.alexnet_core.data.archives.test_zip_source import lies
from tests.hostile_datasets.case import NUM_GOOD, Case, good_members

LINK, DEVICE, FIFO = 0o120777, 0o020666, 0o010666
UNREADABLE = "image_unreadable"


def raw_beside(*entries: Entry) -> bytes:
    return raw_zip([*(Entry(name.encode(), content) for name, content in good_members().items()), *entries])


def tar_beside(*members: bytes, how: str = "") -> bytes:
    return compress(tar_of(good_members(), *members), how)


def of_kind(kind: bytes, **values: int | str) -> Callable[[], bytes]:
    return lambda: tar_beside(tar_member("a/odd.png", b"", kind, **values))


def zip_with_name(name: str) -> bytes:
    return raw_beside(Entry(name.encode(), png()))


def tar_with_name(name: str) -> bytes:
    return tar_beside(tar_member(name, png()), how="gz")


def large_zip_entry(extra: bytes) -> bytes:
    """An entry whose size stands in its extra field."""
    entry = Entry(b"a/1.png", png(), method=0, says_unpacked=0xFFFFFFFF)
    central = bytearray(entry.central(0))
    central[30:32] = struct.pack("<H", len(extra))
    directory = bytes(central) + extra
    return entry.local() + directory + end_of_zip(1, len(directory), len(entry.local()))


def zip_of_a_million(*, says: int) -> bytes:
    entry = Entry(b"a/1")
    central = entry.central(0) * 1_000_000
    at = len(entry.local()) + len(central)
    if says == 1_000_000:
        return entry.local() + central + end_of_zip64(says, len(central), len(entry.local()), at)
    return entry.local() + central + end_of_zip(says, len(central), len(entry.local()))


def zip_that_shares_bytes() -> bytes:
    entry = Entry(b"a/0.png", bytes(1 << 20))
    twins = [Entry(f"a/{number}.png".encode(), entry.content, says_offset=0) for number in range(200)]
    central = b"".join(twin.central(0) for twin in twins)
    return entry.local() + central + end_of_zip(len(twins), len(central), len(entry.local()))


def zip_within_a_member() -> bytes:
    inner = Entry(b"a/2.png", bytes(1 << 20))
    outer = Entry(b"a/1.png", inner.local(), method=0)
    central = outer.central(0) + inner.central(len(outer.local()) - len(inner.local()))
    return outer.local() + central + end_of_zip(2, len(central), len(outer.local()))


def zip_of_a_large_directory() -> bytes:
    entry = Entry(b"a/1.png", png())
    central = bytearray(entry.central(0))
    central[32:34] = struct.pack("<H", 60_000)
    directory = bytes(central) + bytes(60_000)
    body = entry.local()
    return body + directory + end_of_zip(1, len(directory), len(body))


def quine_like() -> bytes:
    """A zip in a zip in a zip."""
    inner = zip_of({"a/1.bmp": bytes(1 << 20)})
    return zip_of(good_members() | {"more.zip": zip_of({f"{number}.zip": inner for number in range(16)})})


def tar_of_a_long_name(kind: bytes) -> bytes:
    """A header that says that gigabytes of a name follow."""
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 7 << 30
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 20)


def tar_of_negative_size() -> bytes:
    header = bytearray(tar_member("a/1.png"))
    header[124:136] = b"\xff" * 12
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return tar_beside(bytes(header))


def zst_of_a_huge_window() -> bytes:
    options: dict[int, int] = {
        zstd.CompressionParameter.window_log: 30,
        zstd.CompressionParameter.enable_long_distance_matching: 1,
    }
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(tar_of(good_members())) + compressor.flush()


def flipped_at(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


def multi(magic: bytes) -> Callable[[], bytes]:
    return lambda: magic + bytes(2000)


NAMES = {
    f"a name in a zip: {name[:30]!a}": Case(partial(zip_with_name, name), "archive_unsafe")
    for name in EVIL_NAMES
} | {
    f"a name in a tar: {name[:30]!a}": Case(partial(tar_with_name, name), "archive_unsafe")
    for name in EVIL_NAMES[:6]
}  # fmt: skip

LINKS = {
    "a link in a zip": Case(
        lambda: raw_beside(Entry(b"a/odd.png", b"/etc/passwd", mode=LINK)), rejected={"a/odd.png": UNREADABLE}
    ),
    "a link to a folder in a zip, and a file in it": Case(
        lambda: raw_beside(Entry(b"a/c", b"/tmp", mode=LINK), Entry(b"a/c/evil.png", png(900))),
        rejected={"a/c": UNREADABLE},
        num_images=NUM_GOOD + 1,
    ),
    "a link to a folder in a tar, and a file in it": Case(
        lambda: tar_beside(
            tar_member("a/c", kind=tarfile.SYMTYPE, linkname="/tmp"), tar_member("a/c/evil.png", png(900)), how="gz"
        ),
        rejected={"a/c": UNREADABLE},
        num_images=NUM_GOOD + 1,
    ),
    "a device in a zip": Case(lambda: raw_beside(Entry(b"a/odd.png", mode=DEVICE)), "archive_unsafe"),
    "a pipe in a zip": Case(lambda: raw_beside(Entry(b"a/odd.png", mode=FIFO)), "archive_unsafe"),
    "a link in a tar": Case(of_kind(tarfile.SYMTYPE, linkname="/etc/passwd"), rejected={"a/odd.png": UNREADABLE}),
    "a link in a tar that climbs": Case(
        of_kind(tarfile.SYMTYPE, linkname="x/" * 40 + "../" * 60 + "etc/passwd"), rejected={"a/odd.png": UNREADABLE}
    ),
    "a hard link in a tar": Case(of_kind(tarfile.LNKTYPE, linkname="/etc/passwd"), rejected={"a/odd.png": UNREADABLE}),
    "a hard link in a tar to a member": Case(
        of_kind(tarfile.LNKTYPE, linkname="a/000.png"), rejected={"a/odd.png": UNREADABLE}
    ),
    "a character device in a tar": Case(of_kind(tarfile.CHRTYPE, devmajor=1, devminor=5), "archive_unsafe"),
    "a block device in a tar": Case(of_kind(tarfile.BLKTYPE), "archive_unsafe"),
    "a pipe in a tar": Case(of_kind(tarfile.FIFOTYPE), "archive_unsafe"),
}

BOMBS = {
    "a zip of one large file": Case(lambda: zip_of({"a/1.bmp": bytes(300 << 20)}), "archive_bomb"),
    "a tar.gz of one large file": Case(lambda: compress(tar_of({"a/1.bmp": bytes(300 << 20)}), "gz"), "archive_bomb"),
    "a tar.zst of one large file": Case(lambda: compress(tar_of({"a/1.bmp": bytes(300 << 20)}), "zst"), "archive_bomb"),
    "many layers of zip": Case(quine_like, "archive_nested"),
    "a tar.gz in a tar": Case(lambda: tar_beside(tar_member("a/more.tar.gz", b"x")), "archive_nested"),
    "members that share bytes": Case(zip_that_shares_bytes, "archive_bomb"),
    "a member within a member": Case(zip_within_a_member, "archive_bomb"),
    "a million entries": Case(lambda: zip_of_a_million(says=1_000_000), "archive_too_large"),
    "a million entries that say they are one": Case(lambda: zip_of_a_million(says=1), "archive_too_large"),
    "a hundred thousand members in a tar.gz": Case(
        lambda: gzip.compress(tar_member("a/1") * 100_001 + END_BLOCKS, 1), "archive_too_large", max_cpu_s=10
    ),
    "a directory of a comment": Case(zip_of_a_large_directory, "archive_too_large"),
    "a member that says it is small": Case(
        lambda: raw_beside(Entry(b"a/odd.bmp", bytes(50 << 20), says_unpacked=100)),
        rejected={"a/odd.bmp": UNREADABLE},
    ),
    "a member that says it has four gigabytes": Case(
        lambda: raw_beside(Entry(b"a/odd.bmp", b"x", says_unpacked=4_000_000_000)), "archive_bomb"
    ),
    "a member that says it takes four gigabytes": Case(
        lambda: raw_beside(Entry(b"a/odd.bmp", b"x", says_packed=4_000_000_000)), "archive_bomb"
    ),
    "a size of 2^62 in an extra field": Case(
        lambda: large_zip_entry(struct.pack("<2HQ", 1, 8, 2**62)), "archive_too_large"
    ),
    "a size that is missing in an extra field": Case(
        lambda: large_zip_entry(struct.pack("<2H", 1, 0)), "archive_damaged"
    ),
    "an extra field that is cut off": Case(lambda: large_zip_entry(struct.pack("<2HI", 1, 99, 0)), "archive_damaged"),
    "a name of gigabytes in a tar": Case(lambda: tar_of_a_long_name(tarfile.GNUTYPE_LONGNAME), "archive_damaged"),
    "attributes of gigabytes in a tar": Case(lambda: tar_of_a_long_name(tarfile.XHDTYPE), "archive_damaged"),
    "a size below zero in a tar": Case(tar_of_negative_size, "archive_damaged"),
    "a window of a gigabyte in a tar.zst": Case(zst_of_a_huge_window, "archive_damaged"),
}  # fmt: skip

CONTRADICTIONS = {
    f"a zip with {name}": Case(partial(lies().__getitem__, name), "archive_damaged")
    for name in lies()
}  # fmt: skip

DAMAGED = {
    "an empty file": Case(lambda: b"", "archive_damaged"),
    "a zip that is cut off": Case(lambda: zip_of(good_members())[:-500], "archive_damaged"),
    "a tar that is cut off": Case(lambda: tar_of(good_members())[:-2000], "archive_damaged"),
    "a tar.gz that is cut off": Case(lambda: compress(tar_of(good_members()), "gz")[:-100], "archive_damaged"),
    "a tar.zst that is cut off": Case(lambda: compress(tar_of(good_members()), "zst")[:-100], "archive_damaged"),
    "a tar.gz with a wrong checksum": Case(
        lambda: flipped_at(compress(tar_of(good_members()), "gz"), -6), "archive_damaged"
    ),
    "a tar with a broken header": Case(
        lambda: flipped_at(tar_of(good_members()), len(tar_member("a/000.png", good_members()["a/000.png"])) + 150),
        "archive_damaged",
    ),
    "a password": Case(lambda: raw_beside(Entry(b"a/odd.png", png(), flags=1)), "archive_encrypted"),
    "a directory with a password": Case(
        lambda: raw_beside(Entry(b"a/odd.png", png(), flags=0x2000)), "archive_encrypted"
    ),
    "a member in bzip2": Case(
        lambda: raw_beside(Entry(b"a/odd.png", bz2.compress(png()), method=12)), rejected={"a/odd.png": UNREADABLE}
    ),
    "a member in LZMA": Case(
        lambda: raw_beside(Entry(b"a/odd.png", lzma.compress(png()), method=14)), rejected={"a/odd.png": UNREADABLE}
    ),
    "a member that is a patch": Case(
        lambda: raw_beside(Entry(b"a/odd.png", png(), flags=0x20)), rejected={"a/odd.png": UNREADABLE}
    ),
    "a member whose bytes are damaged": Case(
        lambda: zip_of(good_members(), zipfile.ZIP_STORED).replace(good_members()["a/000.png"][-30:], bytes(30), 1),
        rejected={"a/000.png": UNREADABLE},
        num_images=NUM_GOOD - 1,
    ),
    "two members of one name": Case(
        lambda: raw_beside(Entry(b"a/odd.png", png(1)), Entry(b"./a/odd.png", png(2))),
        rejected={"a/odd.png": UNREADABLE},
    ),
    "a 7z": Case(multi(b"7z\xbc\xaf\x27\x1c"), "archive_unsupported"),
    "a RAR": Case(multi(b"Rar!\x1a\x07"), "archive_unsupported"),
    "a tar.xz": Case(lambda: lzma.compress(tar_of(good_members())), "archive_unsupported"),
    "a tar.bz2": Case(lambda: bz2.compress(tar_of(good_members())), "archive_unsupported"),
    "a zip in several files": Case(multi(b"PK\7\x08"), "archive_unsupported"),
    "a program with a zip behind it": Case(lambda: b"MZ" + bytes(600) + zip_of(good_members()), "archive_unsupported"),
    "a picture with a zip behind it": Case(lambda: png(1) + zip_of(good_members()), "archive_unsupported"),
    "a page of HTML": Case(lambda: b"<html><script>alert(1)</script>" * 100, "archive_unsupported"),
    "one picture": Case(lambda: png(1, 100), "archive_unsupported"),
    "a gzip of no tar": Case(lambda: gzip.compress(b"hello" * 1000), "archive_damaged"),
    "bytes of zlib": Case(lambda: zlib.compress(bytes(5000)), "archive_unsupported"),
}  # fmt: skip

ARCHIVES = NAMES | LINKS | BOMBS | CONTRADICTIONS | DAMAGED
