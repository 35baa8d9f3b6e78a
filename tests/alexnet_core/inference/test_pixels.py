"""The input that numpy computes is the one that torch computes in training and evaluation."""

from __future__ import annotations

import base64

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.data.squares import StoredShape, cut_square, to_pixels
from alexnet_core.inference.pixels import to_input
from alexnet_core.network.preprocess import Preprocessing


def noise(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), dtype=np.uint8)


def transform(image_px: int, channels: int = 3, **others: object) -> Preprocessing:
    values = {"image_px": image_px, "channels": channels, "mean": (120.5,) * channels, "std": (61.3,) * channels}
    return Preprocessing.model_validate(values | others)


def by_torch(how: Preprocessing, image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
    values: NDArray[np.float32] = how.to_input(torch.from_numpy(image_HWC)[None])[0].numpy()
    return values


@pytest.mark.parametrize(("side", "target"), [(32, 32), (8, 32), (28, 32), (33, 32), (64, 32), (224, 227), (256, 200)])
@pytest.mark.parametrize(("found", "wanted"), [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_a_stored_image_gives_the_same_bits(side: int, target: int, found: int, wanted: int) -> None:
    how, image = transform(target, wanted), noise(side, side, found)
    assert np.array_equal(to_input(how, image), by_torch(how, image))


@pytest.mark.parametrize("shape", [(40, 90), (90, 40), (37, 36)])
def test_only_the_square_in_the_middle_counts(shape: tuple[int, int]) -> None:
    how, image = transform(30, resize_px=34), noise(*shape, 3)
    assert np.array_equal(to_input(how, image), by_torch(how, image))


@pytest.mark.parametrize("side", [100, 200, 251])
def test_what_is_made_much_smaller_differs_by_the_last_bit_at_most(side: int) -> None:
    how, image = transform(28, mean=(0.0,) * 3, std=(1.0,) * 3), noise(side, side, 3)
    np.testing.assert_allclose(to_input(how, image), by_torch(how, image), rtol=0, atol=6e-5)


def test_a_mean_image_is_subtracted_before_the_centre_is_cut_out() -> None:
    values = np.random.default_rng(1).uniform(0, 255, (3, 20, 20)).astype("<f4")
    how = transform(16, resize_px=20, mean_image=base64.b64encode(values.tobytes()).decode())
    image = noise(24, 24, 3)
    assert np.array_equal(to_input(how, image), by_torch(how, image))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_larger_image_is_what_a_pack_of_that_side_would_store(channels: int) -> None:
    how, image = transform(64, channels, resize_px=72), noise(375, 500, 3)
    stored = cut_square(image, StoredShape(72, how.channels)).copy()
    assert np.array_equal(to_input(how, image), by_torch(how, stored))


@pytest.mark.parametrize("size", [(500, 375), (301, 300), (64, 70), (72, 72)])
@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 3), ("RGB", 1)])
def test_an_image_of_pillow_gives_the_same_bits_as_its_pixels(size: tuple[int, int], mode: str, channels: int) -> None:
    image = Image.fromarray(noise(size[1], size[0], 3)).convert(mode)
    mean_image = base64.b64encode(np.random.default_rng(1).uniform(0, 9, (channels, 64, 64)).astype("<f4").tobytes())
    for how in (transform(57, channels, resize_px=64), transform(57, channels, resize_px=64, mean_image=mean_image)):
        x_CHW = to_input(how, image)
        assert np.array_equal(x_CHW, to_input(how, to_pixels(image)))
        if min(size) > 256:
            stored = cut_square(to_pixels(image), StoredShape(64, how.channels)).copy()
            assert np.array_equal(x_CHW, by_torch(how, stored))


def test_other_numbers_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="4 channels"):
        to_input(transform(32), noise(32, 32, 4))
