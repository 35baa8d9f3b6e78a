from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainyard.client.images import read_image

PIXELS = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)


def pixels_of(file: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(file)))


def test_bytes_and_paths_are_sent_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(b"anything")
    assert read_image(b"anything") == read_image(path) == read_image(str(path)) == b"anything"
    assert read_image(bytearray(b"anything")) == b"anything"  # type: ignore[arg-type]  # it is taken, too
    with pytest.raises(FileNotFoundError):
        read_image("nothing.png")


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 3), (4, 4, 4)])
def test_an_array_arrives_pixel_by_pixel(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    assert (pixels_of(read_image(array)) == array.squeeze()).all()


def test_an_image_of_pillow_arrives_pixel_by_pixel() -> None:
    assert (pixels_of(read_image(Image.fromarray(PIXELS))) == PIXELS).all()
    assert pixels_of(read_image(Image.fromarray(PIXELS).convert("CMYK"))).shape == (4, 4, 3)


@pytest.mark.parametrize("array", [PIXELS / 255.0, np.zeros((4, 4, 2), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)])
def test_an_array_that_is_no_image_is_refused_with_what_to_do(array: Any) -> None:
    with pytest.raises(ValueError, match="make it uint8"):
        read_image(array)


def test_anything_else_is_refused() -> None:
    with pytest.raises(TypeError, match="dict is no image"):
        read_image({})  # type: ignore[arg-type]  # that is the test
