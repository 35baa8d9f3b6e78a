"""Draws the kernels of the first convolution, as in Figure 3 of Krizhevsky 2012. No torch.

K kernels, C channels, H height, W width
"""

from __future__ import annotations

import io
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Scale = Literal["common", "own"]

CONV1 = "features.conv1.weight"  #: its name among a checkpoint's weights
PER_ROW = 16  # the paper's figure has six rows of sixteen
KERNEL_PX = 44  # a kernel's side in the picture, or the nearest multiple of its own
GAP_PX = 2
LABEL_PX = 16  # of the line that names a tower


def draw_filters(kernels_KCHW: NDArray[Any], scale: Scale = "common", *, towers: Literal[1, 2] = 1) -> bytes:
    """Draw a PNG with sixteen kernels in a row, in their order, with white between them.

    Every value is a square of equal pixels.

    Args:
        kernels_KCHW: one channel gives a grey picture, three a coloured one.
        scale: `common`: black is the lowest value of all kernels and white the highest, so that weak kernels look
            pale; this is how the paper's figure was made (shownet.py of the 2012 code). `own`: of each kernel alone.
        towers: 2: each half stands by itself below a line that names it; the paper's figure has the 48 kernels that
            were learned on its first GPU above, and those of the second below.

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
    picture = _lay_out(tiles_KHWC) if towers == 1 else _lay_out_halves(tiles_KHWC)
    buffer = io.BytesIO()
    Image.fromarray(picture[:, :, 0] if channels == 1 else picture).save(buffer, "PNG")
    return buffer.getvalue()


def _lay_out_halves(tiles_KHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Put each half of the kernels below a line that names it. An odd kernel goes into the first half."""
    parts: list[NDArray[np.uint8]] = []
    first = 0
    for number, half_KHWC in enumerate(np.array_split(tiles_KHWC, 2), start=1):
        if len(half_KHWC):
            laid = _lay_out(half_KHWC)
            text = f"tower {number}: kernels {first + 1} to {first + len(half_KHWC)}"
            parts += [_write_label(text, laid.shape[1], laid.shape[2]), laid]
            first += len(half_KHWC)
    widest = max(part.shape[1] for part in parts)
    return np.concatenate(
        [np.pad(part, ((0, 0), (0, widest - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    )


def _lay_out(tiles_KHWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    num, height, width, channels = tiles_KHWC.shape
    high, wide = height + GAP_PX, width + GAP_PX
    rows, columns = math.ceil(num / PER_ROW), min(num, PER_ROW)
    picture = np.full((rows * high + GAP_PX, columns * wide + GAP_PX, channels), 255, np.uint8)
    for index, tile_HWC in enumerate(tiles_KHWC):
        top, left = GAP_PX + index // PER_ROW * high, GAP_PX + index % PER_ROW * wide
        picture[top : top + height, left : left + width] = tile_HWC
    return picture


def _write_label(text: str, width: int, channels: int) -> NDArray[np.uint8]:
    """Return a white strip with black text, as wide as asked for or as the text needs."""
    needed = math.ceil(ImageFont.load_default().getlength(text)) + 2 * GAP_PX
    strip = Image.new("L", (max(width, needed), LABEL_PX), 255)
    ImageDraw.Draw(strip).text((GAP_PX, 2), text, fill=0, font=ImageFont.load_default())
    return np.repeat(np.asarray(strip, np.uint8)[:, :, None], channels, axis=2)


def _to_bytes(kernels_KCHW: NDArray[Any], scale: Scale) -> NDArray[np.uint8]:
    """Scale values to 0..255; an empty range gives 128."""
    kernels = kernels_KCHW.astype(np.float64)
    axes = None if scale == "common" else (1, 2, 3)
    low, high = kernels.min(axis=axes, keepdims=True), kernels.max(axis=axes, keepdims=True)
    shares = np.where(high > low, (kernels - low) / np.where(high > low, high - low, 1), 128 / 255)
    scaled: NDArray[np.uint8] = np.rint(255 * shares).astype(np.uint8)
    return scaled
