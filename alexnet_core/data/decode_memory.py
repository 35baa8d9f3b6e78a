"""What memory the decoding of an image takes, and a bound on what all decodes of a process take. Torch-free."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

#: Bytes a pixel at the peak of a decode, measured on 25 million pixels in the mode that takes most: Pillow's own copy,
#: the decoder's buffers, our array. `docs/benchmarks.md` has the figures.
_BYTES_A_PIXEL = {"JPEG": 16, "MPO": 16, "PNG": 12, "BMP": 12, "GIF": 8, "TIFF": 16, "WEBP": 24}
MOST_BYTES_A_PIXEL = max(_BYTES_A_PIXEL.values())
TOGETHER_BYTES = 1_000_000_000


def need_bytes(image: Image.Image) -> int:
    """What decoding an image takes at its peak, beside its file; known from its header."""
    return image.width * image.height * _BYTES_A_PIXEL.get(image.format or "", MOST_BYTES_A_PIXEL)


class MemoryBudget:
    """Lets decodes begin as long as their needs fit together; one alone always may."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes, self._taken_bytes = limit_bytes, 0
        self._changed = threading.Condition()

    @contextmanager
    def taken(self, need: int) -> Iterator[None]:
        """Hold some bytes of the budget; waits until they are free."""
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
