"""Computes the mean of a pack's training images, as a picture. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.inspection.selection import select
from alexnet_core.data.inspection.thumbnails import encode_png, resize
from alexnet_core.data.pack import Pack

MAX_BYTES = 1 << 30  #: of pixels that are read for a mean
_CHUNK_BYTES = 1 << 23


@dataclass(frozen=True)
class MeanImage:
    """The mean of some images, pixel by pixel."""

    pixels: NDArray[np.uint8]  #: HWC, rounded to the nearest whole number
    num_images: int  #: that it is the mean of
    num_selected: int  #: that there are

    def draw(self, px: int | None = None) -> bytes:
        """Draw it as a PNG, as large as the images are stored or with another side."""
        return encode_png(self.pixels if px is None else resize(self.pixels, px))


def compute_mean(pack: Pack, *, label: int | None = None, max_bytes: int = MAX_BYTES) -> MeanImage | None:
    """Compute the mean of the training images, of all or of one class. None: there are none.

    Where they have more than a gigabyte of pixels, it is the mean of as many as have that, evenly spaced: an hour of
    reading would change no value by more than a few of 255.

    Args:
        pack: the pack.
        label: only this class; None: all.
        max_bytes: of pixels that are read.
    """
    selected = select(pack, split="train", label=label)
    if not len(selected):
        return None
    row_bytes = int(np.prod(pack.images.shape[1:]))
    num_images = min(len(selected), max(1, max_bytes // row_bytes))
    positions = selected[np.arange(num_images) * len(selected) // num_images]
    sums = np.zeros(row_bytes, dtype=np.int64)
    step = max(1, _CHUNK_BYTES // row_bytes)
    for start in range(0, num_images, step):
        chunk = pack.images[positions[start : start + step]].reshape(-1, row_bytes)
        sums += chunk.sum(axis=0, dtype=np.int64)
    mean = (2 * sums + num_images) // (2 * num_images)
    return MeanImage(mean.astype(np.uint8).reshape(pack.images.shape[1:]), num_images, len(selected))
