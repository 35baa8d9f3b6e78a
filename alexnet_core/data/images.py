"""The one decoder of image files, for datasets and predictions alike. Torch-free.

The documented rule: the first frame; turned as EXIF says; 16-bit grey divided by 257, and 12-bit grey by 4095/255;
transparency laid on white; palettes, CMYK and other colour spaces converted to RGB; 1-bit and grey images stay grey
(but for 16-bit grey with an alpha channel, which Pillow reads as RGB).
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from alexnet_core.data.headers import MAX_PIXELS, open_image, require_few_scans
from alexnet_core.errors import ImageError, ImageFormatUnsupported, ImageUnreadable

_ROWS_AT_ONCE = 64
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF
_WHITE_IS_ZERO = 0


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """The pixels of an image file.

    Returns:
        uint8 (H, W, 3) RGB, or (H, W, 1) where the file is grey.

    Raises:
        ImageUnreadable: empty, cut off or damaged.
        ImageTooLarge: more pixels than allowed, or takes too long; found in headers, before a pixel is decoded.
        ImageFormatUnsupported: not JPEG, PNG, WebP, BMP, GIF or TIFF, or pixels that have no agreed brightness.
    """
    if not data:
        raise ImageUnreadable("The image has 0 bytes. Send the whole file.")
    try:
        with open_image(io.BytesIO(data), max_pixels=max_pixels) as image:
            require_few_scans(data)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
            return _to_array(image)
    except (ImageError, MemoryError):
        raise
    except Exception as exc:  # decoders fail with almost any class on damaged files
        raise ImageUnreadable(f"The image is damaged ({exc}). Send the whole file.") from exc


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode.startswith("I;16"):
        return _from_16_bit_file(image)
    if image.mode in ("I", "F"):
        return _from_wide(image)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or image.has_transparency_data:
        grey = image.mode in ("L", "1", "LA", "La")
        return _on_white(np.asarray(image.convert("LA" if grey else "RGBA")))
    if image.mode in ("1", "L"):
        return np.array(image.convert("L"))[..., None]
    return np.array(image if image.mode == "RGB" else image.convert("RGB"))


def _from_16_bit_file(image: Image.Image) -> NDArray[np.uint8]:
    """What Pillow leaves to us of grey above 8 bits: TIFFs of 12 bits or with white as 0, a colour that is none."""
    tags = getattr(image, "tag_v2", {})
    words_HW = np.asarray(image)
    pixels_HW1 = _from_words(words_HW, 4095 if tags.get(_BITS) == (12,) else 65535)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        return 255 - pixels_HW1
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        pixels_HW1[words_HW == transparent] = 255
    return pixels_HW1


def _from_words(words_HW: NDArray[np.integer], white: int) -> NDArray[np.uint8]:
    """White becomes 255; rounded."""
    return ((words_HW.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)[..., None]


def _from_wide(image: Image.Image) -> NDArray[np.uint8]:
    """32-bit integers that hold 16-bit values, as some files do; anything else has no agreed white."""
    pixels_HW = np.asarray(image)
    if image.mode == "F" or pixels_HW.min() < 0 or pixels_HW.max() > 65535:
        raise ImageFormatUnsupported("The image has 32-bit pixels. Send one with 8 or 16 bits.")
    return _from_words(pixels_HW, 65535)


def _on_white(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The colour laid on white by its alpha, rounded: a c + (1 - a) 255."""
    height, width, channels = pixels_HWC.shape
    laid_HWC = np.empty((height, width, channels - 1), np.uint8)
    for top in range(0, height, _ROWS_AT_ONCE):  # in strips: the wide numbers take 16 bytes a pixel
        strip = pixels_HWC[top : top + _ROWS_AT_ONCE].astype(np.uint32)
        colour, alpha = strip[..., :-1], strip[..., -1:]
        laid_HWC[top : top + _ROWS_AT_ONCE] = (colour * alpha + 255 * (255 - alpha) + 127) // 255
    return laid_HWC
