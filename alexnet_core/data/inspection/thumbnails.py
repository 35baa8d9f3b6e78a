"""Draws images of a pack: one, or up to 64 in one picture. Torch-free.

An image that is shown smaller than it is stored is averaged. One that is shown at least twice as large shows its pixels
as squares, so that nothing is invented: a digit of 8x8 pixels is 64 squares.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.data.pack import Pack

SPRITE_IMAGES, SPRITE_COLUMNS = 64, 8
MIN_PX, MAX_PX = 8, 512  #: of a single image
MAX_TILE_PX = 128  #: of an image among others
TILE_PX = 64  #: unless asked otherwise


def draw_image(pack: Pack, position: int, px: int | None = None) -> bytes:
    """Draw one image as a PNG.

    Args:
        pack: the pack.
        position: of the image in the pack.
        px: side of the picture; None: as it is stored, pixel by pixel.
    """
    pixels_HWC = np.asarray(pack.images[position])
    return encode_png(pixels_HWC if px is None else resize(pixels_HWC, px))


def draw_sprite(pack: Pack, positions: Sequence[int] | NDArray[np.int64], px: int = TILE_PX) -> bytes:
    """Draw up to 64 images as one PNG, eight in a row without gaps: number i begins at (i % 8 * px, i // 8 * px).

    The picture has as many rows as are needed; places in the last row that are left over are white.

    Args:
        pack: the pack.
        positions: of the images in the pack, 1 to 64.
        px: side of each image in the picture.

    Raises:
        ValueError: no image, or more than 64.
    """
    if not 1 <= len(positions) <= SPRITE_IMAGES:
        raise ValueError(f"a sprite shows 1 to {SPRITE_IMAGES} images, not {len(positions)}")
    rows = math.ceil(len(positions) / SPRITE_COLUMNS)
    picture = np.full((rows * px, SPRITE_COLUMNS * px, pack.channels), 255, dtype=np.uint8)
    for place, position in enumerate(positions):
        top, left = place // SPRITE_COLUMNS * px, place % SPRITE_COLUMNS * px
        picture[top : top + px, left : left + px] = resize(np.asarray(pack.images[position]), px)
    return encode_png(picture)


def resize(pixels_HWC: NDArray[np.uint8], px: int) -> NDArray[np.uint8]:
    """Return a square image at another size."""
    side, _, channels = pixels_HWC.shape
    if side == px:
        return pixels_HWC
    how = Image.Resampling.NEAREST if px >= 2 * side else Image.Resampling.BILINEAR
    return np.asarray(_to_image(pixels_HWC).resize((px, px), how)).reshape(px, px, channels)


def encode_png(pixels_HWC: NDArray[np.uint8]) -> bytes:
    """Encode a grey or coloured picture as a PNG."""
    buffer = io.BytesIO()
    _to_image(pixels_HWC).save(buffer, "PNG")
    return buffer.getvalue()


def _to_image(pixels_HWC: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC))
