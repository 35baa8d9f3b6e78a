"""The one decoder of image files, for datasets and predictions alike. Torch-free.

The rules, which are documented: only the first frame is used; the image is turned as EXIF says; 16-bit grey is divided
by 257, and 12-bit grey by 4095/255; transparency is blended with white; palettes, CMYK and other colour spaces are
converted to RGB; 1-bit and grey images stay grey (except 16-bit grey with an alpha channel, which Pillow reads as RGB).
Of a HEIC file only the main image is used. HEIC and AVIF of more than 8 bits are read with 8.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from alexnet_core.data.decode_memory import MEMORY, need_bytes
from alexnet_core.data.headers import MAX_PIXELS, open_image
from alexnet_core.data.squares import Pixels, StoredShape, cut_image, cut_middle, to_image
from alexnet_core.data.structure import (
    MAX_SCANS,
    count_scans,
    has_run_lengths,
    is_heif_or_avif,
    is_tiff,
    require_few_scans,
)
from alexnet_core.errors import ImageError, ImageFormatUnsupported, ImageUnreadable

SMALL_FILE_BYTES = 512 * 1024
SMALL_PIXELS = 2_000_000  #: of an image, times the scans that it is stored in

_PIXELS_AT_ONCE = 1 << 19
_BITS, _PHOTOMETRIC = 258, 262  # tags of TIFF
_WHITE_IS_ZERO = 0
_TURNS = range(2, 9)  # EXIF's orientations but the upright one

Convert = Callable[[Image.Image], NDArray[np.uint8]]


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return the pixels of an image file.

    Returns:
        uint8 (H, W, 3) RGB, or (H, W, 1) where the file is grey.

    Raises:
        ImageUnreadable: empty, cut off or damaged.
        ImageTooLarge: more pixels or parts than allowed, or takes too long; found before a pixel is decoded.
        ImageFormatUnsupported: not one of the formats, or pixels that have no agreed brightness.
    """
    with _open(data, max_pixels) as image:
        require_few_scans(data, image.width * image.height)
        with MEMORY.taken(need_bytes(image)):
            return _decode(image)


def decode_square(data: bytes, stored: StoredShape, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Return the square of an image file that a pack stores: `cut_square` of `decode_image`, in less time.

    Raises:
        ImageError: as `decode_image`.
    """
    with _open(data, max_pixels) as image:
        require_few_scans(data, image.width * image.height)
        with MEMORY.taken(need_bytes(image)), _damage_told():
            return _load_square(image, stored)


def decode_if_small(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Pixels | None:
    """Return the pixels of an image that takes at most some milliseconds and megabytes. None: it takes more.

    They stay Pillow's where it has them as `decode_image` would return them: to copy a photograph's takes a tenth of
    the time that its decoding takes.

    Small means up to 512 kB, and up to two million pixels that are crossed once. No TIFF is small, because libtiff
    supports compressions whose need of time and memory no header tells. No AVIF and no HEIC is small, for the reason
    given in `structure.is_heif_or_avif`.

    Raises:
        ImageError: as `decode_image`.
    """
    if len(data) > SMALL_FILE_BYTES or is_tiff(data) or is_heif_or_avif(data):
        return None
    with _open(data, max_pixels) as image:
        pixels = image.width * image.height
        if pixels > SMALL_PIXELS or has_run_lengths(data):
            return None
        scans = count_scans(data)
        return None if scans > MAX_SCANS or pixels * scans > SMALL_PIXELS else _decode_or_load(image)


def _open(data: bytes, max_pixels: int) -> Image.Image:
    if not data:
        raise ImageUnreadable("The image has 0 bytes. Send the whole file.")
    return open_image(data, max_pixels=max_pixels)


def _decode(image: Image.Image) -> NDArray[np.uint8]:
    with _damage_told():
        return _turn(_to_array(_load(image)), _find_orientation(image))


def _decode_or_load(image: Image.Image) -> Pixels:
    with _damage_told():
        orientation = _find_orientation(_load(image))
        return image if _is_plain(image, orientation) else _turn(_to_array(image), orientation)


def _load_square(image: Image.Image, stored: StoredShape) -> Image.Image:
    orientation = _find_orientation(_load(image))
    if not _is_plain(image, orientation):
        return cut_image(to_image(cut_middle(_turn(_to_array(image), orientation))), stored)
    square = cut_image(image, stored)
    return square.copy() if square is image else square  # the file of an image that was opened is closed


def _is_plain(image: Image.Image, orientation: object) -> bool:
    """Whether nothing of a loaded image has to be converted or turned."""
    return orientation not in _TURNS and image.mode in ("L", "RGB") and not image.has_transparency_data


def _load(image: Image.Image) -> Image.Image:
    image.load()
    return image


def _find_orientation(image: Image.Image) -> object:
    return image.getexif().get(ExifTags.Base.Orientation, 1)


@contextmanager
def _damage_told() -> Iterator[None]:
    """Translate what decoders raise."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as exc:  # decoders fail with almost any class on damaged files
        raise ImageUnreadable(f"The image is damaged ({exc}). Send the whole file.") from exc


def _turn(pixels_HWC: NDArray[np.uint8], orientation: object) -> NDArray[np.uint8]:
    """Turn the image upright. 2 to 8 say which of its borders is stored first (EXIF 2.32, orientation)."""
    if orientation not in _TURNS:
        return pixels_HWC
    if orientation in (5, 6, 7, 8):
        pixels_HWC = pixels_HWC.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels_HWC = pixels_HWC[::-1]
    if orientation in (2, 3, 6, 7):
        pixels_HWC = pixels_HWC[:, ::-1]
    return np.ascontiguousarray(pixels_HWC)


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    """Convert the pixels some rows at a time, because Pillow would make two more copies of the whole image."""
    convert, channels = _choose_conversion(image)
    width, height = image.size
    rows = max(1, _PIXELS_AT_ONCE // width)
    pixels_HWC = np.empty((height, width, channels), np.uint8)
    for top in range(0, height, rows):
        bottom = min(height, top + rows)
        strip = image if bottom - top == height else image.crop((0, top, width, bottom))
        pixels_HWC[top:bottom] = convert(strip)
    return pixels_HWC


def _choose_conversion(image: Image.Image) -> tuple[Convert, int]:
    """Choose the function that converts some rows of an image to pixels, and the number of channels."""
    if image.mode.startswith("I;16"):
        return _choose_words(image), 1
    if image.mode in ("I", "F"):
        return _from_wide, 1
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or image.has_transparency_data:
        grey = image.mode in ("L", "1", "LA", "La")
        mode = "LA" if grey else "RGBA"
        return lambda strip: _on_white(np.asarray(strip.convert(mode))), 1 if grey else 3
    if image.mode in ("1", "L"):
        return lambda strip: np.asarray(strip.convert("L"))[..., None], 1
    return lambda strip: np.asarray(strip if strip.mode == "RGB" else strip.convert("RGB")), 3


def _choose_words(image: Image.Image) -> Convert:
    """Return the conversion of grey images with more than 8 bits, for the cases that Pillow does not handle.

    These are TIFFs of 12 bits or with 0 for white, and images with a colour that means transparent.
    """
    tags = getattr(image, "tag_v2", {})
    white = 4095 if tags.get(_BITS) == (12,) else 65535
    is_inverted = tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO
    transparent = image.info.get("transparency")

    def convert(strip: Image.Image) -> NDArray[np.uint8]:
        words_HW = np.asarray(strip)
        pixels_HW1 = _from_words(words_HW, white)
        if is_inverted:
            return 255 - pixels_HW1
        if isinstance(transparent, int):
            pixels_HW1[words_HW == transparent] = 255
        return pixels_HW1

    return convert


def _from_words(words_HW: NDArray[np.integer], white: int) -> NDArray[np.uint8]:
    """Scale to 8 bits: white becomes 255, values are rounded."""
    return ((words_HW.astype(np.uint32) * 255 + white // 2) // white).astype(np.uint8)[..., None]


def _from_wide(strip: Image.Image) -> NDArray[np.uint8]:
    """Convert 32-bit integers that hold 16-bit values, as in some files. No other 32-bit format has an agreed white."""
    pixels_HW = np.asarray(strip)
    if strip.mode == "F" or pixels_HW.min() < 0 or pixels_HW.max() > 65535:
        raise ImageFormatUnsupported("The image has 32-bit pixels. Send one with 8 or 16 bits.")
    return _from_words(pixels_HW, 65535)


def _on_white(pixels_HWC: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Blend the colour with white by its alpha, rounded: (a c + (255 - a) 255) / 255."""
    wide_HWC = pixels_HWC.astype(np.uint16)
    colour, alpha = wide_HWC[..., :-1], wide_HWC[..., -1:]
    sum_HWC = colour * alpha + 255 * (255 - alpha) + 128  # at most 65,153
    laid: NDArray[np.uint8] = ((sum_HWC + (sum_HWC >> 8)) >> 8).astype(
        np.uint8
    )  # a division by 255, exact below 65,536
    return laid
