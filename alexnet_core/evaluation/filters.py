"""The first convolution's kernels as a picture, as in Figure 3 of Krizhevsky 2012. No torch.

K kernels, C channels, H height, W width
"""

from __future__ import annotations

import io
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Scale = Literal["common", "own"]

CONV1 = "features.conv1.weight"  #: its name among a checkpoint's weights
PER_ROW = 16  # the paper's figure has six rows of sixteen
KERNEL_PX = 44  # a kernel's side in the picture, or the nearest multiple of its own
GAP_PX = 2


def draw_filters(kernels_KCHW: NDArray[Any], scale: Scale = "common") -> bytes:
    """A PNG with sixteen kernels a row, in their order, white between them; every value is a square of equal pixels.

    Args:
        kernels_KCHW: one channel gives a grey picture, three a coloured one.
        scale: `common`: black is the lowest value of all kernels and white the highest, so that weak kernels look
            pale; this is how the paper's figure was made (shownet.py of the 2012 code). `own`: of each kernel alone.

    Raises:
        ValueError: neither one nor three channels, no kernels, or a value that is not finite.
    """
    num, channels, height, width = kernels_KCHW.shape
    if channels not in {1, 3} or num == 0:
        raise ValueError(f"kernels of 1 or 3 channels can be drawn, these are {num} of {channels}")
    if not np.isfinite(kernels_KCHW).all():
        raise ValueError("a kernel has a value that is not finite")
    times = max(1, round(KERNEL_PX / max(height, width)))
    tiles_KHWC = _to_bytes(kernels_KCHW, scale).transpose(0, 2, 3, 1).repeat(times, axis=1).repeat(times, axis=2)
    high, wide = height * times + GAP_PX, width * times + GAP_PX
    rows, columns = math.ceil(num / PER_ROW), min(num, PER_ROW)
    picture = np.full((rows * high + GAP_PX, columns * wide + GAP_PX, channels), 255, np.uint8)
    for index, tile_HWC in enumerate(tiles_KHWC):
        top, left = GAP_PX + index // PER_ROW * high, GAP_PX + index % PER_ROW * wide
        picture[top : top + height * times, left : left + width * times] = tile_HWC
    buffer = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if channels == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()


def _to_bytes(kernels_KCHW: NDArray[Any], scale: Scale) -> NDArray[np.uint8]:
    """Values as 0 to 255; 128 where a range is empty."""
    kernels = kernels_KCHW.astype(np.float64)
    axes = None if scale == "common" else (1, 2, 3)
    low, high = kernels.min(axis=axes, keepdims=True), kernels.max(axis=axes, keepdims=True)
    shares = np.where(high > low, (kernels - low) / np.where(high > low, high - low, 1), 128 / 255)
    scaled: NDArray[np.uint8] = np.rint(255 * shares).astype(np.uint8)
    return scaled
