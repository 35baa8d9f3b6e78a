"""Opens image files and reads only their headers, and refuses images that would cost too much to decode. Torch-free.

A few bytes can ask for gigabytes or hours: by the size of an image, of a GIF's canvas or of one tile of a TIFF, by a
JPEG's thousands of scans over all its pixels, or by millions of parts (`structure`). Headers tell all of this before a
pixel is decoded.
"""

from __future__ import annotations

import io
import warnings
from typing import IO

import pi_heif
from PIL import AvifImagePlugin, Image, PngImagePlugin, UnidentifiedImageError

from alexnet_core.data.structure import MoreNeeded, find_tile, require_few_parts
from alexnet_core.errors import ImageError, ImageFormatUnsupported, ImageTooLarge, ImageUnreadable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "AVIF", "HEIF")
MAX_PIXELS = 25_000_000
_HEAD_BYTES = 65_536  # of a file, within which most have all of their header

# Pillow's own limit counts while it opens a file, before we see a size; it warns above the limit and raises at twice
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
PngImagePlugin.MAX_TEXT_MEMORY = 16 * PngImagePlugin.MAX_TEXT_CHUNK
# One thread an image: images are decoded in several threads already
AvifImagePlugin.DEFAULT_MAX_THREADS = 1
pi_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def read_header(file: IO[bytes], *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Read the header of an open file, for its shape. Unlike `open_image` it reads no more than is needed."""
    head = file.read(_HEAD_BYTES)
    try:
        require_few_parts(head, whole=False)
    except MoreNeeded:
        head += file.read()
        require_few_parts(head)
    _require_small_tiles(head, max_pixels)
    file.seek(0)
    return _open(file, max_pixels)


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Open an image file and read its header but no pixels. The caller must close it.

    Raises:
        ImageUnreadable: the header is damaged.
        ImageTooLarge: the image, or a tile of it, has more pixels than allowed, or the file too many parts.
        ImageFormatUnsupported: not one of `FORMATS`.
    """
    require_few_parts(data)
    _require_small_tiles(data, max_pixels)
    return _open(io.BytesIO(data), max_pixels)


def _require_small_tiles(data: bytes, max_pixels: int) -> None:
    width, height = find_tile(data)
    if width * height > max_pixels:
        raise _too_large(f"The image is stored in tiles of {width}x{height},", max_pixels)


def _open(file: IO[bytes], max_pixels: int) -> Image.Image:
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
    try:
        image = Image.open(file, formats=FORMATS)
    except UnidentifiedImageError as exc:
        raise ImageFormatUnsupported(
            "The data is not a complete image in a supported format. Send JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or "
            "HEIC."
        ) from exc
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as exc:
        raise _too_large("The image has", max_pixels) from exc
    except (ImageError, MemoryError):
        raise
    except Exception as exc:  # decoders fail with almost any class on damaged files
        raise ImageUnreadable(f"The image is damaged ({exc}). Send the whole file.") from exc
    if image.width * image.height > max_pixels:
        image.close()
        raise _too_large(f"The image is {image.width}x{image.height},", max_pixels)
    return image


def _too_large(what: str, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(f"{what} more than {max_pixels:,} pixels. Scale it down.")
