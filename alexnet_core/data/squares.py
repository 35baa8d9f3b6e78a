"""Cuts and resizes a decoded image to the square that a pack stores. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.data.headers import MAX_PIXELS, read_header

MIN_SIDE_PX = 8
MAX_SIDE_PX = 256  # the paper's (Krizhevsky 2012, section 2)
#: An image's pixels: (H, W, C) with 1 (grey) or 3 channels (red, green, blue); or as Pillow has them, `L` or `RGB`.
Pixels = NDArray[np.uint8] | Image.Image
_GREY_MODES = ("1", "L", "LA", "La", "I", "F")


@dataclass(frozen=True, slots=True)
class ImageShape:
    """The size and channels of an image file, known before it is decoded."""

    width: int  #: pixels, before a turn that EXIF asks for
    height: int
    channels: Literal[1, 3]
    mode: str = ""  #: Pillow's word for how colours are stored: `RGB`, `L`, `P`, `CMYK`…
    format: str = ""  #: `JPEG`, `PNG`…; "" where the image is no file

    @property
    def shorter_px(self) -> int:
        """The length of the shorter side."""
        return min(self.width, self.height)


@dataclass(frozen=True)
class StoredShape:
    """The shape that all images of a pack have."""

    side_px: int
    channels: Literal[1, 3]


def read_shape(file: IO[bytes], *, max_pixels: int = MAX_PIXELS) -> ImageShape:
    """Read the shape of an image file from its header.

    Raises:
        ImageTooLarge: it has more pixels than allowed.
        ImageFormatUnsupported: it is not of a format that is read.
        ImageUnreadable: the header is damaged.
    """
    with read_header(file, max_pixels=max_pixels) as image:
        is_grey = image.mode in _GREY_MODES or image.mode.startswith("I;16")
        return ImageShape(image.width, image.height, 1 if is_grey else 3, image.mode, image.format or "")


def choose_shape(shapes: Iterable[ImageShape], side_px: int | None = None) -> StoredShape:
    """Choose the stored shape: grey if all images are; as large as the largest, but at most 256 px.

    So if all images are squares of one size of up to 256 px, they keep their pixels.

    Args:
        shapes: at least one.
        side_px: another side, 8 to 256.

    Raises:
        ValueError: the side is outside that range.
    """
    largest_px, channels = MIN_SIDE_PX, 1
    for shape in shapes:
        largest_px, channels = max(largest_px, shape.shorter_px), max(channels, shape.channels)
    if side_px is None:
        side_px = min(MAX_SIDE_PX, largest_px)
    if not MIN_SIDE_PX <= side_px <= MAX_SIDE_PX:
        raise ValueError(f"the side is {side_px} px: use {MIN_SIDE_PX} to {MAX_SIDE_PX}")
    return StoredShape(side_px, 1 if channels == 1 else 3)


def cut_middle(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return the square in the middle as a view. Packs and predictions use only this part of an image."""
    height, width, _ = pixels_HWC.shape
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return pixels_HWC[top : top + side, left : left + side]


def cut_square(pixels_HWC: NDArray[np.uint8], stored: StoredShape) -> NDArray[np.uint8]:
    """Return the square in the middle, resized (bilinear, antialiased).

    The paper did so (section 2), and prediction does the same.

    Only the pixels of that square are computed, so that a very long image needs no extra memory.

    Args:
        pixels_HWC: 1 or 3 channels.
        stored: what to return.

    Returns:
        uint8 (side, side, channels); the very pixels where nothing has to change.

    Raises:
        ValueError: another number of channels.
    """
    return to_pixels(cut_image(to_image(cut_middle(pixels_HWC)), stored))


def cut_image(image: Image.Image, stored: StoredShape) -> Image.Image:
    """Do what `cut_square` does with an image of Pillow's, grey (`L`) or `RGB`. Each conversion to an array costs time.

    Returns:
        Another image, or the same where nothing has to change.
    """
    image = _crop_middle(image, stored.channels)
    if image.width != stored.side_px:
        image = image.resize((stored.side_px, stored.side_px), Image.Resampling.BILINEAR)
    return image if stored.channels == 1 or image.mode == "RGB" else image.convert("RGB")


def cut_centre(image: Image.Image, stored: StoredShape, centre_px: int) -> Image.Image:
    """Return the square of that side in the middle of `cut_image`. What lies around it is not computed, where possible.

    Args:
        image: grey (`L`) or `RGB`; its shorter side is longer than that of `stored`.
        stored: what the whole would be.
        centre_px: at most the side of `stored`.
    """
    before = (stored.side_px - centre_px) // 2
    after = before + centre_px
    square = _crop_middle(image, stored.channels)  # not by the box below: by its size Pillow chooses what it does first
    scale = square.width / stored.side_px
    start, end = before * scale, after * scale
    if not _is_exact(stored.side_px, start, end):
        return cut_image(square, stored).crop((before, before, after, after))
    centre = square.resize((centre_px, centre_px), Image.Resampling.BILINEAR, (start, start, end, end))
    return centre if stored.channels == 1 or centre.mode == "RGB" else centre.convert("RGB")


def _crop_middle(image: Image.Image, channels: int) -> Image.Image:
    """Return the square in the middle; grey, if that is what is wanted: it is then resized in less time."""
    side = min(image.size)
    if image.width != image.height:
        left, top = (image.width - side) // 2, (image.height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    return image.convert("L") if channels == 1 and image.mode != "L" else image


def _is_exact(side_px: int, start: float, end: float) -> bool:
    """Whether Pillow rounds neither the scale nor these coordinates: else its weights may not be those of the whole."""
    is_power_of_two = side_px & (side_px - 1) == 0
    return is_power_of_two and np.float32(start) == start and np.float32(end) == end


def to_image(pixels_HWC: NDArray[np.uint8]) -> Image.Image:
    """Return pixels as an image of Pillow's.

    Raises:
        ValueError: they have neither 1 nor 3 channels.
    """
    channels = pixels_HWC.shape[2]
    if channels not in (1, 3):
        raise ValueError(f"the image has {channels} channels: give 1 (grey) or 3 (red, green, blue), without alpha")
    return Image.fromarray(np.ascontiguousarray(pixels_HWC[..., 0] if channels == 1 else pixels_HWC))


def to_pixels(image: Image.Image) -> NDArray[np.uint8]:
    """Return the pixels of a grey or RGB image, (H, W, 1) or (H, W, 3)."""
    return np.asarray(image).reshape(image.height, image.width, -1)
