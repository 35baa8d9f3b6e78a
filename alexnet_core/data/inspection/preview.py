"""Draws a preview of a pack: a row for each class, with its name and some of its training images. Torch-free."""

from __future__ import annotations

import importlib.util
import math
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from alexnet_core.data.inspection.selection import select
from alexnet_core.data.inspection.thumbnails import encode_png, resize
from alexnet_core.data.pack import Pack

PREVIEW_CLASSES, PREVIEW_COLUMNS = 20, 10
PREVIEW_PX = 48  #: side of an image, unless asked otherwise
_GAP_PX = 2
_MAX_NAME_PX = 180
_TEXT_PX = 12
_DEJAVU = "mpl-data/fonts/ttf/DejaVuSans.ttf"  # in matplotlib: Latin, Greek, Cyrillic, Hebrew and Arabic


def draw_preview(pack: Pack, first_class: int = 0, px: int = PREVIEW_PX) -> bytes:
    """Draw up to 20 classes as a PNG: in each row a class's name and up to ten of its training images, evenly spaced.

    Args:
        pack: the pack.
        first_class: label of the class in the first row.
        px: side of each image in the picture.

    Raises:
        ValueError: there is no such class.
    """
    labels = range(first_class, min(first_class + PREVIEW_CLASSES, len(pack.class_names)))
    if not labels or first_class < 0:
        raise ValueError(f"there are {len(pack.class_names)} classes, so none has the label {first_class}")
    row_px = max(px, _TEXT_PX + 4)
    texts = [_shorten(pack.class_names[label], label) for label in labels]
    name_px = math.ceil(max(_load_font().getlength(text) for text in texts)) + 6 * _GAP_PX
    size = (len(labels) * (row_px + _GAP_PX) + _GAP_PX, name_px + PREVIEW_COLUMNS * (px + _GAP_PX))
    picture = np.full((*size, pack.channels), 255, dtype=np.uint8)
    for row, label in enumerate(labels):
        top = _GAP_PX + row * (row_px + _GAP_PX)
        picture[top : top + row_px, :name_px] = _write(texts[row], (name_px, row_px))[..., None]
        for column, position in enumerate(choose_examples(pack, label)):
            left = name_px + column * (px + _GAP_PX)
            picture[top : top + px, left : left + px] = resize(np.asarray(pack.images[position]), px)
    return encode_png(picture)


def choose_examples(pack: Pack, label: int, count: int = PREVIEW_COLUMNS) -> list[int]:
    """Return the positions of some training images of a class, evenly spaced from its first to its last."""
    positions = select(pack, split="train", label=label)
    count = min(count, len(positions))
    return [int(position) for position in positions[np.linspace(0, len(positions) - 1, count).round().astype(int)]]


def _shorten(name: str, label: int) -> str:
    """Return a class's name in at most 180 px. One with characters that the font lacks becomes `class 7`."""
    font = _load_font()
    text = name if all(_has_glyph(character) for character in name) else f"class {label}"
    if font.getlength(text) <= _MAX_NAME_PX:
        return text
    return next(text[:n] + "…" for n in range(len(text), -1, -1) if font.getlength(text[:n] + "…") <= _MAX_NAME_PX)


def _write(text: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return a white strip, of a width and a height, with a text in the middle of its height."""
    strip = Image.new("L", size, 255)
    ImageDraw.Draw(strip).text((2 * _GAP_PX, (size[1] - _TEXT_PX) // 2 - 1), text, fill=0, font=_load_font())
    return np.asarray(strip)


@cache
def _load_font() -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    spec = importlib.util.find_spec("matplotlib")  # is not imported: only its font is read
    if spec is not None and spec.origin is not None and (path := Path(spec.origin).parent / _DEJAVU).is_file():
        return ImageFont.truetype(str(path), _TEXT_PX)
    return ImageFont.load_default()


@cache
def _missing_glyph() -> bytes:
    return bytes(_load_font().getmask("\U0010ffff"))


def _has_glyph(character: str) -> bool:
    return character == " " or bytes(_load_font().getmask(character)) != _missing_glyph()
