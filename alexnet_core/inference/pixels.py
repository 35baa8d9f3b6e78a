"""Turns a decoded image into the network's input, with numpy and Pillow alone.

An image of up to 256 px, as packs store them, gets the values that `Preprocessing.to_input` computes with torch: the
same bits, except that the last bit of some may differ if the image is made smaller by more than half. A larger image is
first made smaller exactly as it would be on its way into a pack.

C channels, H height, W width
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.data.squares import MAX_SIDE_PX, Pixels, StoredShape, cut_centre, cut_middle, to_image, to_pixels
from alexnet_core.network.input_transform import LUMA, InputTransform

Floats = NDArray[np.float32]


def to_input(transform: InputTransform, image: Pixels) -> Floats:
    """Return the standardised input_CHW, float32, of one decoded image.

    The square in its middle is resized to `resize_px` (bilinear, antialiased), then the centre is cut out.

    Args:
        transform: the network's.
        image: 1 or 3 channels.

    Raises:
        ValueError: it has another number of channels.
    """
    x_CHW = _cut(transform, image)
    if transform.mean_image is not None:
        x_CHW -= _centre(transform.mean_image_CHW, transform)
    x_CHW -= _column(transform.mean)
    x_CHW /= _column(transform.std)
    return x_CHW


def _cut(transform: InputTransform, image: Pixels) -> Floats:
    """Return the resized centre as an array of its own."""
    side = transform.side_px
    shorter = min(image.size if isinstance(image, Image.Image) else image.shape[:2])
    if shorter > max(side, MAX_SIDE_PX):
        whole = image if isinstance(image, Image.Image) else to_image(cut_middle(image))
        centre = cut_centre(whole, StoredShape(side, transform.channels), transform.image_px)
        return _to_floats(to_pixels(centre))
    square_HWC = cut_middle(to_pixels(image) if isinstance(image, Image.Image) else image)
    return _centre(_resize(_to_channels(_to_floats(square_HWC), transform.channels), side), transform)


def _to_floats(pixels_HWC: NDArray[np.uint8]) -> Floats:
    # in this order: with the channels last, a sum with one value for each channel takes ten times as long
    return pixels_HWC.transpose(2, 0, 1).astype(np.float32, order="C")


def _centre(x_CHW: Floats, transform: InputTransform) -> Floats:
    before = (transform.side_px - transform.image_px) // 2
    return x_CHW[:, before : before + transform.image_px, before : before + transform.image_px]


@lru_cache(maxsize=64)
def _column(values: tuple[float, ...]) -> Floats:
    return np.array(values, dtype=np.float32)[:, None, None]


def _to_channels(x_CHW: Floats, channels: int) -> Floats:
    found = len(x_CHW)
    if found not in (1, 3):
        raise ValueError(f"the images have {found} channels: give 1 (grey) or 3 (red, green, blue), without alpha")
    if found == channels:
        return x_CHW
    if channels == 3:
        return np.repeat(x_CHW, 3, axis=0)
    red, green, blue = (x_CHW[index] * np.float32(share) for index, share in enumerate(LUMA))
    grey: Floats = red + green + blue
    return grey[None]


def _resize(x_CHW: Floats, side: int) -> Floats:
    if x_CHW.shape[2] == side:
        return x_CHW
    narrow = _resize_rows(x_CHW, side)
    return _resize_rows(narrow.transpose(0, 2, 1), side).transpose(0, 2, 1)


def _resize_rows(x: Floats, size: int) -> Floats:
    """Resize the last dimension. Each output is a sum over neighbours, which is rounded once for each of them."""
    window = _window(x.shape[2], size)
    total: Floats = x[..., window.places[0]] * window.shares[0]
    for places, shares in zip(window.places[1:], window.shares[1:], strict=True):
        total = (x[..., places] * shares.astype(np.float64) + total).astype(np.float32)
    return total


@dataclass(frozen=True)
class _Window:
    """The neighbours that each output is made of: in the order in which they are added up."""

    places: NDArray[np.int64]  #: (neighbours, outputs)
    shares: Floats  #: (neighbours, outputs); 0 for those that an output does not have


@lru_cache(maxsize=64)
def _window(size: int, out: int) -> _Window:
    """Return the triangular filter of an antialiased bilinear resize, in the precision of the values themselves."""
    scale = np.float32(size) / np.float32(out)
    reach = max(scale, np.float32(1))
    half = np.float32(0.5)
    centres = (scale * (np.arange(out, dtype=np.float32) + half)).astype(np.float32)
    firsts = np.maximum((centres - reach + half).astype(np.int64), 0)
    counts = np.minimum((centres + reach + half).astype(np.int64), size) - firsts
    numbers = np.arange(int(counts.max()))[:, None]
    distances = ((numbers + firsts).astype(np.float32) - centres + half) * (np.float32(1) / reach)
    shares = np.where(numbers < counts, np.maximum(np.float32(1) - np.abs(distances), np.float32(0)), np.float32(0))
    total = np.zeros(out, dtype=np.float32)
    for row in shares:
        total += row
    return _Window(np.minimum(numbers + firsts, size - 1), (shares / total).astype(np.float32))
