"""Draws an explanation over the image that it is about: a heat map with transparency, or both in one picture. No torch.

H height, W width, C channels
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.insight.methods import View

MAX_PX = 1024  #: longest side of a picture
MIN_PX = 16
_FOR, _AGAINST = (213, 94, 0), (0, 114, 178)  # vermilion and blue, which the colour-blind tell apart (Okabe and Ito)
_OPACITY = 0.8  # of the strongest values
_GREY_SHARE = 0.5  # of the image's own colours that are taken out below a heat map


@dataclass(frozen=True)
class Seen:
    """The square of an image that a network sees, in pixels of the image."""

    left: float
    top: float
    side: float

    @classmethod
    def of(cls, width: int, height: int, *, image_px: int, resize_px: int | None) -> Seen:
        """Return what `Preprocessing.to_input` cuts out: of the square in the middle, the centre."""
        shorter, resized = min(width, height), resize_px or image_px
        first = (resized - image_px) // 2
        scale = shorter / resized
        return cls((width - shorter) // 2 + first * scale, (height - shorter) // 2 + first * scale, image_px * scale)


def draw_heat(
    heat_HW: NDArray[np.float32], image_HWC: NDArray[np.uint8], seen: Seen, view: View, px: int | None = None
) -> bytes:
    """Draw a PNG with the image's sides. What the network does not see of the image is transparent.

    Values above 0 are vermilion, those below are blue; the closer to 0, the more transparent.

    Args:
        heat_HW: -1 to 1.
        image_HWC: with 1 or 3 channels.
        seen: where on the image the heat map belongs.
        view: what is drawn.
        px: the picture's longer side. None: that of the image, at most 1024.
    """
    height, width = image_HWC.shape[:2]
    zoom = (px or min(MAX_PX, max(width, height))) / max(width, height)
    size = (max(1, round(width * zoom)), max(1, round(height * zoom)))
    heat = _place(heat_HW, size, seen, zoom)
    picture = Image.fromarray(_colour(heat))
    if view is View.OVERLAY:
        below = Image.fromarray(image_HWC[:, :, 0] if image_HWC.shape[2] == 1 else image_HWC)
        below = below.convert("RGB").resize(size, Image.Resampling.BILINEAR)
        pale = Image.blend(below, below.convert("L").convert("RGB"), _GREY_SHARE)
        picture = Image.alpha_composite(pale.convert("RGBA"), picture).convert("RGB")
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _place(heat_HW: NDArray[np.float32], size: tuple[int, int], seen: Seen, zoom: float) -> NDArray[np.float32]:
    """Return the heat of every pixel of the picture; 0 outside of what is seen."""
    left, top = round(seen.left * zoom), round(seen.top * zoom)
    side = max(1, round(seen.side * zoom))
    fine = Image.fromarray(heat_HW.astype(np.float32)).resize((side, side), Image.Resampling.BILINEAR)
    placed = np.zeros((size[1], size[0]), np.float32)
    part = placed[top : top + side, left : left + side]  # rounding may reach a pixel beyond the picture
    part[:] = np.asarray(fine)[: part.shape[0], : part.shape[1]]
    return placed


def _colour(heat_HW: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return RGBA."""
    picture = np.empty((*heat_HW.shape, 4), np.uint8)
    picture[..., :3] = np.where((heat_HW < 0)[..., None], _AGAINST, _FOR)
    picture[..., 3] = np.rint(255 * _OPACITY * np.minimum(1, np.abs(heat_HW)))
    return picture
