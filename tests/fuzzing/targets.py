"""What is fuzzed: the readers of archives and of image files, which get any bytes that a user sends."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from alexnet_core.data.archives.members import ArchiveLimits
from alexnet_core.data.archives.opening import open_archive
from alexnet_core.data.images import decode_image, decode_square
from alexnet_core.data.layouts.recognition import recognise
from alexnet_core.data.sources import Source
from alexnet_core.data.squares import StoredShape, cut_square, read_shape, to_pixels
from alexnet_core.data.structure import is_heif_or_avif
from alexnet_core.errors import DatasetInvalid, ImageError

LIMITS = ArchiveLimits(max_entries=200, max_unpacked_bytes=4 << 20, ratio_from_bytes=1 << 20)
MAX_PIXELS = 1 << 18
STORED = StoredShape(24, 3)


def read_archive(data: bytes) -> None:
    """Open an archive, find out its classes and read all that is in it. A refusal is an answer, anything else is not.

    Raises:
        Exception: a defect.
    """
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder, suppress(DatasetInvalid):
        path = Path(folder) / "archive"
        path.write_bytes(data)
        with open_archive(path, limits=LIMITS, spool_dir=path.parent) as source:
            for name in source.paths:
                if not name.endswith("/"):
                    _read_member(source, name)
            recognise(source)


def _read_member(source: Source, name: str) -> None:
    """Read a member twice. What is wrong with it is told of the member, not of the archive."""
    try:
        with suppress(ImageError), source.open(name) as file:
            file.read(1)
            file.seek(0)
            file.read()
    except DatasetInvalid as exc:
        raise AssertionError(f"the member {name!a} has the whole archive refused") from exc


def read_image(data: bytes) -> None:
    """Read the header of an image, and its pixels in both ways. A refusal is an answer, anything else is not.

    HEIC and AVIF are decoded in a process of their own, where nothing can do harm; here only their headers are read.

    Raises:
        Exception: a defect.
    """
    with suppress(ImageError):
        read_shape(io.BytesIO(data), max_pixels=MAX_PIXELS)
    if is_heif_or_avif(data):
        return
    with suppress(ImageError):
        pixels = decode_image(data, max_pixels=MAX_PIXELS)
        square = decode_square(data, STORED, max_pixels=MAX_PIXELS)
        assert (to_pixels(square) == cut_square(pixels, STORED)).all()


TARGETS: dict[str, Callable[[bytes], None]] = {"archive": read_archive, "image": read_image}
