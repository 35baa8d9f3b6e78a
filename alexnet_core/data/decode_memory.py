"""Computes the memory that decoding an image takes, and limits that of all decodes in a process. Torch-free."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

#: Bytes a pixel at the peak of a decode, measured on 25 million pixels in the mode that takes most: Pillow's own copy,
#: the decoder's buffers, our array. `docs/benchmarks.md` has the figures.
_BYTES_A_PIXEL = {"JPEG": 16, "MPO": 16, "PNG": 12, "BMP": 12, "GIF": 8, "TIFF": 16, "WEBP": 24, "AVIF": 24, "HEIF": 24}
MOST_BYTES_A_PIXEL = max(_BYTES_A_PIXEL.values())
TOGETHER_BYTES = 1_000_000_000


def need_bytes(image: Image.Image) -> int:
    """Return the peak memory for decoding an image, besides its file. It is known from the header."""
    return image.width * image.height * _BYTES_A_PIXEL.get(image.format or "", MOST_BYTES_A_PIXEL)


class MemoryBudget:
    """Lets decodes start as long as their needs fit into the budget together. One decode alone may always start."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes, self._taken_bytes = limit_bytes, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, need: int) -> Iterator[None]:
        """Hold some bytes of the budget inside the block; waits until they are free."""
        with self._changed:
            self._changed.wait_for(lambda: not self._taken_bytes or self._taken_bytes + need <= self._limit_bytes)
            self._taken_bytes += need
        try:
            yield
        finally:
            with self._changed:
                self._taken_bytes -= need
                self._changed.notify_all()


MEMORY = MemoryBudget(TOGETHER_BYTES)
"""Of this process."""
