"""The one decoder of image files, for datasets and predictions alike. Torch-free.

The documented rule: the first frame; turned as EXIF says; 16-bit grey divided by 257; transparency laid on white;
palettes, CMYK and other colour spaces converted to RGB; 1-bit and grey images stay grey.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from alexnet_core.errors import ImageError, ImageFormatUnsupported, ImageTooLarge, ImageUnreadable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 25_000_000
_ROWS_AT_ONCE = 64

Image.MAX_IMAGE_PIXELS = None  # Pillow's own limit, which knows nothing of ours; decode_image asks before it decodes


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of an image file.

    Returns:
        uint8 (H, W, 3) RGB, or (H, W, 1) where the file is grey.

    Raises:
        ImageUnreadable: empty, cut off or damaged.
        ImageTooLarge: more pixels than allowed; found in the header, before a pixel is decoded.
        ImageFormatUnsupported: not JPEG, PNG, WebP, BMP, GIF or TIFF, or pixels that have no agreed brightness.
    """
    if not data:
        raise ImageUnreadable("The image has 0 bytes. Send the whole file.")
    try:
        with _open(data) as image:
            if image.width * image.height > max_pixels:
                raise ImageTooLarge(
                    f"The image is {image.width}x{image.height}, more than {max_pixels:,} pixels. Scale it down."
                )
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _to_array(image)
    except (ImageError, MemoryError):
        raise
    except Exception as exc:  # decoders fail with almost any class on damaged files
        raise ImageUnreadable(f"The image is damaged ({exc}). Send the whole file.") from exc


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as exc:
        raise ImageFormatUnsupported(
            "The bytes are not a whole image of a supported format. Send JPEG, PNG, WebP, BMP, GIF or TIFF."
        ) from exc


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        return _from_16_bit(np.asarray(image))
    if image.mode in ("I", "F"):
        return _from_wide(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or image.has_transparency_data:
        grey = image.mode in ("L", "1", "LA", "La")
        return _on_white(np.asarray(image.convert("LA" if grey else "RGBA")))
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))[..., None]
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _from_16_bit(pixels_HW: NDArray[np.integer]) -> NDArray[np.uint8]:
    """65535 becomes 255: divided by 257 and rounded."""
    return ((pixels_HW.astype(np.uint32) + 128) // 257).astype(np.uint8)[..., None]


def _from_wide(image: Image.Image) -> NDArray[np.uint8]:
    """32-bit integers that hold 16-bit values, as some files do; anything else has no agreed white."""
    pixels_HW = np.asarray(image)
    if image.mode == "F" or pixels_HW.min() < 0 or pixels_HW.max() > 65535:
        raise ImageFormatUnsupported("The image has 32-bit pixels. Send one with 8 or 16 bits.")
    return _from_16_bit(pixels_HW)


def _on_white(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colour laid on white by its alpha, rounded: a c + (1 - a) 255."""
    height, width, channels = pixels_HWC.shape
    laid_HWC = np.empty((height, width, channels - 1), np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):  # in strips: the wide numbers take 16 bytes a pixel
        strip = pixels_HWC[top : top + _ROWS_AT_ONCE].astype(np.uint32)
        colour, alpha = strip[..., :-1], strip[..., -1:]
        laid_HWC[top : top + _ROWS_AT_ONCE] = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return laid_HWC
