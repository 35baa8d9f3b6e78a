"""Opens image files as far as their headers, and refuses what would cost too much to decode. Torch-free.

A few bytes can ask for gigabytes or hours: by the size of an image, of a GIF's canvas or of one tile of a TIFF, or by a
JPEG's thousands of scans over all its pixels. All of it is told by headers, before a pixel is decoded.
"""

from __future__ import annotations

import re
import warnings
from typing import IO, Literal

from PIL import Image, UnidentifiedImageError

from alexnet_core.errors import ImageError, ImageFormatUnsupported, ImageTooLarge, ImageUnreadable

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MAX_PIXELS = 25_000_000
_MAX_SCANS = 100  # of a JPEG; encoders make about ten
_TILE_SIDES = (322, 323)  # tags of TIFF: width and length of its tiles
_SHORT, _LONG = 3, 4  # types of TIFF
_MAX_TAGS = 4096
_START_OF_SCAN, _END_OF_IMAGE, _START_OF_IMAGE = 0xDA, 0xD9, 0xD8
_MARKER = re.compile(rb"\xff[^\x00\x01\xff\xd0-\xd7]")  # of JPEG: no stuffed byte, no fill, none that stands alone

# Pillow's own limit counts while it opens a file, before we see a size; it warns above the limit and raises at twice
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def open_image(file: IO[bytes], *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """An image file whose header has been read, and no pixel; to be closed.

    Raises:
        ImageUnreadable: the header is damaged.
        ImageTooLarge: the image, or a tile of it, has more pixels than allowed.
        ImageFormatUnsupported: not JPEG, PNG, WebP, BMP, GIF or TIFF.
    """
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, max_pixels)
    try:
        image = Image.open(file, formats=FORMATS)
        tile_width, tile_height = _find_tile(file) if image.format == "TIFF" else (0, 0)
    except UnidentifiedImageError as exc:
        raise ImageFormatUnsupported(
            "The bytes are not a whole image of a supported format. Send JPEG, PNG, WebP, BMP, GIF or TIFF."
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
    if tile_width * tile_height > max_pixels:
        image.close()
        raise _too_large(f"The image is stored in tiles of {tile_width}x{tile_height},", max_pixels)
    return image


def require_few_scans(data: bytes) -> None:
    """Refuse a JPEG that takes long to decode: every scan may cross all pixels, and costs the sender some bytes.

    Args:
        data: a whole file; of any other format nothing is found in it.

    Raises:
        ImageTooLarge: more than 100 scans.
    """
    if _count_scans(data) > _MAX_SCANS:
        raise ImageTooLarge(f"The image is a JPEG in more than {_MAX_SCANS} scans. Save it again, as a plain one.")


def _too_large(what: str, max_pixels: int) -> ImageTooLarge:
    return ImageTooLarge(f"{what} more than {max_pixels:,} pixels. Scale it down.")


def _find_tile(file: IO[bytes]) -> tuple[int, int]:
    """Width and height of the tiles of a TIFF, each of which is decoded as a whole; (0, 0) where there are none.

    Pillow and its decoder, libtiff, don't agree on what a tag means that is there twice or has an unusual type: such a
    file is damaged (TIFF 6.0, section 2).
    """
    place = file.tell()
    file.seek(0)
    header = file.read(16)
    order: Literal["little", "big"] = "little" if header.startswith(b"II") else "big"
    is_big_tiff = b"\x2b" in header[2:4]
    offset, count_bytes, entry_bytes = (header[8:16], 8, 20) if is_big_tiff else (header[4:8], 2, 12)
    file.seek(int.from_bytes(offset, order))
    num_tags = int.from_bytes(file.read(count_bytes), order)
    tags = file.read(entry_bytes * min(num_tags, _MAX_TAGS))
    file.seek(place)
    sides: dict[int, int] = {}
    for start in range(0, len(tags), entry_bytes):
        number, kind = (int.from_bytes(tags[at : at + 2], order) for at in (start, start + 2))
        if number in _TILE_SIDES:
            if number in sides or kind not in (_SHORT, _LONG):
                raise ValueError("the size of its tiles can't be told")
            value = start + entry_bytes - (8 if is_big_tiff else 4)
            sides[number] = int.from_bytes(tags[value : value + (2 if kind == _SHORT else 4)], order)
    if num_tags > _MAX_TAGS:
        raise ValueError(f"it has {num_tags} tags")
    return sides.get(_TILE_SIDES[0], 0), sides.get(_TILE_SIDES[1], 0)


def _count_scans(data: bytes) -> int:
    """The scans of a JPEG's first image (ITU T.81, annex B); what follows its end, as a film does, is not looked at."""
    if not data.startswith(b"\xff\xd8"):
        return 0
    num_scans = position = 0
    while (found := _MARKER.search(data, position)) is not None:
        marker, position = data[found.end() - 1], found.end()
        if marker == _END_OF_IMAGE:
            break
        if marker != _START_OF_IMAGE:  # every other one has a length, which counts itself
            num_scans += marker == _START_OF_SCAN
            position += int.from_bytes(data[position : position + 2], "big")
    return num_scans
