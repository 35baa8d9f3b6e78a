"""Turns what stands for an image into the bytes of an image file."""

from __future__ import annotations

import io
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy
    from PIL.Image import Image

    ImageLike: TypeAlias = bytes | str | PathLike[str] | Image | numpy.ndarray[Any, Any]
else:
    ImageLike = object


def read_image(image: ImageLike) -> bytes:
    """Return an image's file.

    Args:
        image: the bytes of a file, its path, an image of Pillow, or an array of uint8 with (height, width) or
            (height, width, channels): grey, or red, green and blue, and maybe alpha.

    Raises:
        OSError: the file can't be read.
        TypeError: it is something else.
        ValueError: the array is no image.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, str | PathLike):
        return Path(image).read_bytes()
    if hasattr(image, "__array_interface__") and not hasattr(image, "save"):
        return _write_png(_from_array(image))
    if hasattr(image, "save") and hasattr(image, "convert"):
        return _write_png(image)
    raise TypeError(f"{type(image).__name__} is no image: give a path, bytes, an image of Pillow, or an array of uint8")


def _from_array(array: Any) -> Image:
    from PIL import Image

    if str(array.dtype) != "uint8" or array.ndim not in {2, 3} or (array.ndim == 3 and array.shape[2] not in {1, 3, 4}):
        raise ValueError(
            f"an array of {array.dtype} with shape {tuple(array.shape)} is no image: make it uint8, values 0 to 255, "
            "with shape (height, width) or (height, width, 3)"
        )
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _write_png(image: Any) -> bytes:
    file = io.BytesIO()
    (image if image.mode in {"1", "L", "P", "RGB", "RGBA", "I;16", "LA"} else image.convert("RGB")).save(file, "PNG")
    return file.getvalue()
