"""What is known of many images is kept in few bytes, and nothing of it is lost."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from alexnet_core.data.intake.image_table import KeptImages, ShapeTable, describe_images
from alexnet_core.data.moments import Moments
from alexnet_core.data.squares import ImageShape, to_image

GREY, COLOUR = ImageShape(30, 20, 1, "L", "PNG"), ImageShape(500, 375, 3, "RGB", "JPEG")


def test_shapes_are_those_of_the_files_that_were_not_rejected() -> None:
    table = ShapeTable(5)
    for position, shape in {0: GREY, 2: COLOUR, 3: ImageShape(7, 9, 3, "RGB"), 4: COLOUR}.items():
        table.set(position, shape)
    table.remove(4)
    assert list(table) == [GREY, COLOUR, ImageShape(7, 9, 3, "RGB")]
    assert list(table.list_positions()) == [0, 2, 3]
    assert table.list_largest() == [GREY, COLOUR, ImageShape(7, 9, 3, "RGB")]
    assert table.sizes().tolist() == [[30, 20], [500, 375], [7, 9]]
    assert table.count_kinds() == ({"RGB": 2, "L": 1}, {"PNG": 1, "JPEG": 1})


def test_of_each_kind_the_shape_with_the_longest_shorter_side_is_the_largest() -> None:
    table = ShapeTable(4)
    for position, (width, height) in enumerate([(900, 10), (40, 50), (50, 41), (60, 60)]):
        table.set(position, ImageShape(width, height, 1, "L", "PNG"))
    table.remove(3)
    assert table.list_largest() == [ImageShape(50, 41, 1, "L", "PNG")]
    assert ShapeTable(2).list_largest() == []


@pytest.mark.parametrize("channels", [1, 3])
def test_moments_of_chosen_images_are_those_of_their_pixels(tmp_path: Path, channels: int) -> None:
    generator = np.random.default_rng(channels)
    images = [generator.integers(0, 256, (256, 256, channels)).astype(np.uint8) for _ in range(4)]
    images[0][:] = 255  # the largest sums
    chosen = np.array([True, False, True, True])
    with KeptImages(tmp_path, image_px=256, channels=channels) as kept:
        for positions in ([0, 1, 2], [3]):
            squares = [to_image(images[position]) for position in positions]
            kept.append(positions, describe_images(squares, with_fingerprints=False))
        found = kept.compute_moments(chosen).summary()
    pixels_PC = np.stack(images)[chosen].reshape(-1, channels).astype(np.int64)
    expected = Moments(channels)
    expected.add(np.stack(images)[chosen])
    assert found == expected.summary()
    assert np.allclose(found["mean"], pixels_PC.mean(axis=0), rtol=1e-12)
    assert np.allclose(found["covariance"], np.cov(pixels_PC.T, bias=True), rtol=1e-9)


def test_an_image_takes_few_bytes_of_memory(tmp_path: Path) -> None:
    num_images = 2_000
    images = np.random.default_rng(0).integers(0, 256, (num_images, 8, 8, 3)).astype(np.uint8)
    described = describe_images([to_image(images[0])], with_fingerprints=True)  # loads what fingerprints need
    tracemalloc.start()
    with KeptImages(tmp_path, image_px=8, channels=3) as kept:
        before = tracemalloc.get_traced_memory()[0]
        for position in range(num_images):
            kept.append([position], described)
        taken = tracemalloc.get_traced_memory()[0] - before
        assert len(kept.fingerprints) == num_images
    tracemalloc.stop()
    assert taken / num_images < 120
    assert list(tmp_path.iterdir()) == []
