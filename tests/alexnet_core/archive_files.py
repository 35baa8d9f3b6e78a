"""Archives written byte by byte, honest and hostile ones."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from PIL import Image

from alexnet_core.data.archives.members import ArchiveLimits
from alexnet_core.data.archives.opening import open_archive
from alexnet_core.errors import DatasetInvalid

END_BLOCKS = bytes(1024)


def png(seed: int = 0, size: int = 12) -> bytes:
    """A small image of noise, another for every seed."""
    buffer = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def two_classes(count: int = 12, prefix: str = "") -> dict[str, bytes]:
    """Members of a dataset that can be trained on."""
    return {
        f"{prefix}{name}/{i:03d}.png": png(1000 * number + i) for number, name in enumerate("ab") for i in range(count)
    }


def zip_of(members: Mapping[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip as Python writes it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@dataclass
class Entry:
    """One member of a zip, with what its directory says of it."""

    name: bytes
    content: bytes = b""
    method: int = 8
    flags: int = 0
    mode: int = 0  #: as of a file of Unix
    says_unpacked: int | None = None
    says_packed: int | None = None
    says_offset: int | None = None
    packed: bytes = field(init=False)

    def __post_init__(self) -> None:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        self.packed = deflate.compress(self.content) + deflate.flush() if self.method == 8 else self.content

    def local(self) -> bytes:
        sizes = len(self.packed), len(self.content) if self.says_unpacked is None else self.says_unpacked
        crc = zlib.crc32(self.content)
        head = struct.pack("<4s5H3I2H", b"PK\3\4", 20, self.flags, self.method, 0, 33, crc, *sizes, len(self.name), 0)
        return head + self.name + self.packed

    def central(self, offset: int) -> bytes:
        packed = len(self.packed) if self.says_packed is None else self.says_packed
        unpacked = len(self.content) if self.says_unpacked is None else self.says_unpacked
        crc, at = zlib.crc32(self.content), offset if self.says_offset is None else self.says_offset
        versions = (3 << 8) | 20, 20
        head = struct.pack("<4s6H3I5H2I", b"PK\1\2", *versions, self.flags, self.method, 0, 33, crc, packed, unpacked,
                           len(self.name), 0, 0, 0, 0, self.mode << 16, at)  # fmt: skip
        return head + self.name


def end_of_zip(count: int, size: int, start: int, comment: bytes = b"") -> bytes:
    return struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, size, start, len(comment)) + comment


def end_of_zip64(count: int, size: int, start: int, at: int) -> bytes:
    record = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    return record + struct.pack("<4sIQI", b"PK\6\7", 0, at, 1) + end_of_zip(0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)


def raw_zip(entries: Iterable[Entry], *, says_count: int | None = None) -> bytes:
    """A zip with whatever its entries say."""
    body, central = b"", b""
    count = 0
    for entry in entries:
        central += entry.central(len(body))
        body += entry.local()
        count += 1
    return body + central + end_of_zip(count if says_count is None else says_count, len(central), len(body))


def honest_entries(count: int = 12) -> list[Entry]:
    return [Entry(name.encode(), content) for name, content in two_classes(count).items()]


def tar_member(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **values: object) -> bytes:
    """One member of a tar: its headers and blocks."""
    info = tarfile.TarInfo(name)
    info.type, info.size = kind, len(content)
    for key, value in values.items():
        setattr(info, key, value)
    return info.tobuf(tarfile.PAX_FORMAT) + content + bytes(-len(content) % 512)


def tar_of(members: Mapping[str, bytes], *more: bytes) -> bytes:
    """A tar; `more` are members as `tar_member` makes them."""
    return b"".join([*(tar_member(name, content) for name, content in members.items()), *more, END_BLOCKS])


def compress(data: bytes, how: str) -> bytes:
    """As `tar.gz` or `tar.zst` is."""
    return {"": lambda: data, "gz": lambda: gzip.compress(data, 6), "zst": lambda: zstd.compress(data)}[how]()


def read_all(path: Path, limits: ArchiveLimits | None = None) -> dict[str, bytes]:
    """The members of an archive that can be opened."""
    with open_archive(path, limits=limits or ArchiveLimits(), spool_dir=path.parent) as source:
        contents = {}
        for name in source.paths:
            if not name.endswith("/"):
                with source.open(name) as file:
                    contents[name] = file.read()
        return contents


def refuse(path: Path, content: bytes, limits: ArchiveLimits | None = None) -> DatasetInvalid:
    """The error that refuses an archive; nothing is left beside it."""
    path.write_bytes(content)
    with pytest.raises(DatasetInvalid) as exc:
        read_all(path, limits or ArchiveLimits())
    assert str(exc.value).isprintable()
    assert os.listdir(path.parent) == [path.name]
    return exc.value
