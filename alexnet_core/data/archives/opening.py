"""Opens an archive; its first bytes tell the format. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alexnet_core.data.archives.members import ArchiveLimits
from alexnet_core.data.archives.refusals import cut_off, refused
from alexnet_core.data.archives.tar_source import OnRead, TarSource, is_tar
from alexnet_core.data.archives.unpacked_stream import GZIP_MAGIC, ZSTD_MAGIC
from alexnet_core.data.archives.zip_directory import END_OF_ZIP, MAX_END_BYTES
from alexnet_core.data.archives.zip_source import ZipSource
from alexnet_core.data.sources import Source
from alexnet_core.errors import DatasetUnavailable
from alexnet_core.regular_files import open_regular

_MAGIC_BYTES = 512
_ZIP_MAGICS = (b"PK\3\4", b"PK\5\6")
_OTHERS = {
    b"7z\xbc\xaf\x27\x1c": "a 7z archive",
    b"Rar!\x1a\x07": "a RAR archive",
    b"\xfd7zXZ\0": "compressed by xz",
    b"BZh": "compressed by bzip2",
    b"PK\7\x08": "one part of a zip in several",
}


@contextmanager
def open_archive(
    path: Path, *, limits: ArchiveLimits, spool_dir: Path, on_read: OnRead | None = None
) -> Iterator[Source]:
    """Open a zip, tar, tar.gz or tar.zst. Nothing is unpacked under a member's name.

    Args:
        path: the archive; a regular file.
        limits: on its size.
        spool_dir: a folder on a disk with room for the contents of a compressed tar; other archives need none.
        on_read: called while a tar is opened, with the number of its bytes that were read and that of all; opening a
            zip takes no time. What it raises ends the work.

    Raises:
        DatasetUnavailable: there is no such file.
        DatasetInvalid: the archive is refused; `problem` is one of those that `refusals` lists.
        OSError: the disk is full, or fails.
    """
    resolved = path.resolve()
    try:
        file = open_regular(resolved.parent, resolved.name)
    except FileNotFoundError as exc:
        raise DatasetUnavailable(f"There is no file {path}.") from exc
    with file:
        archive_bytes = os.fstat(file.fileno()).st_size
        magic = file.read(_MAGIC_BYTES)
        file.seek(0)
        if magic.startswith(_ZIP_MAGICS):
            with ZipSource(file, archive_bytes, limits) as source:
                yield source
        elif magic.startswith((GZIP_MAGIC, ZSTD_MAGIC)) or is_tar(magic):
            with TarSource(file, magic, archive_bytes, limits, spool_dir=spool_dir, on_read=on_read) as source:
                yield source
        else:
            file.seek(max(0, archive_bytes - MAX_END_BYTES))
            raise _explain(magic, file.read())


def _explain(magic: bytes, tail: bytes) -> Exception:
    if not magic:
        return cut_off()
    what = next((name for begin, name in _OTHERS.items() if magic.startswith(begin)), "not an archive")
    if END_OF_ZIP in tail and what == "not an archive":
        what = "a zip with something else in front of it"
    return refused("archive_unsupported", f"it is {what}. Pack the images as .zip, .tar, .tar.gz or .tar.zst")
