"""The mean image is the mean of the training images, exactly, and of large packs that of many."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexnet_core.data.inspection.mean_image import compute_mean
from alexnet_core.data.pack import TEST
from alexnet_core.data.pack_draft import write_pack
from tests.alexnet_core.data.inspection.test_thumbnails import read_png, write_noise


@pytest.mark.parametrize("channels", [1, 3])
def test_it_is_the_mean_of_the_training_images(tmp_path: Path, channels: int) -> None:
    pack = write_noise(tmp_path / "pack", 71, 8, channels)
    training = pack.images[pack.split == 0].astype(np.float64)
    mean = compute_mean(pack)
    assert mean is not None
    assert np.array_equal(mean.pixels, np.floor(training.mean(axis=0) + 0.5))
    assert (mean.num_images, mean.num_selected) == (24, 24)
    assert np.array_equal(read_png(mean.draw()), mean.pixels)
    assert read_png(mean.draw(64)).shape == (64, 64, channels)


def test_it_can_be_that_of_one_class(tmp_path: Path) -> None:
    pack = write_noise(tmp_path / "pack", 71, 8, 1)
    chosen = pack.images[(pack.split == 0) & (pack.labels == 1)].astype(np.float64)
    mean = compute_mean(pack, label=1)
    assert mean is not None
    assert np.array_equal(mean.pixels, np.floor(chosen.mean(axis=0) + 0.5))


def test_of_many_images_it_is_the_mean_of_as_many_as_are_read_evenly_spaced(tmp_path: Path) -> None:
    pack = write_noise(tmp_path / "pack", 300, 8, 1)
    training = pack.images[pack.split == 0].astype(np.float64)
    mean = compute_mean(pack, max_bytes=25 * 64 + 63)
    assert mean is not None
    assert (mean.num_images, mean.num_selected) == (25, 100)
    assert np.array_equal(mean.pixels, np.floor(training[::4].mean(axis=0) + 0.5))


def test_where_nothing_is_trained_on_there_is_none(tmp_path: Path) -> None:
    pack = write_pack(
        tmp_path / "pack",
        name="tested",
        class_names=("a", "b"),
        images_NHWC=np.zeros((4, 8, 8, 1), np.uint8),
        labels_N=np.array([0, 1, 0, 1]),
        split_N=np.full(4, TEST, np.uint8),
        flip_safe=True,
    )
    assert compute_mean(pack) is None
