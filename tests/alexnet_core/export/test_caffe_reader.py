"""Caffe's models and means, encoded by hand in both kinds of layers."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from alexnet_core.errors import CheckpointCorrupt
from alexnet_core.export.caffe_reader import read_layers, read_mean
from tests.alexnet_core.export.caffe_files import Values, blob, counted, model, number, varint


def draw(*shape: int) -> Values:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("old", [True, False])
def test_the_blobs_of_every_layer_are_read(tmp_path: Path, old: bool) -> None:
    layers = {"data": [], "conv1": [draw(4, 3, 5, 5), draw(4)], "relu1": [], "fc6": [draw(6, 300), draw(6)]}
    path = tmp_path / "a.caffemodel"
    path.write_bytes(model(layers, old=old))
    found = read_layers(path)
    assert list(found) == ["conv1", "fc6"]
    for name, blobs in found.items():
        for values, expected in zip(blobs, layers[name], strict=True):
            assert np.array_equal(values.reshape(expected.shape), expected)
            assert values.ndim == (4 if old else expected.ndim)


def test_a_mean_image_is_read_with_its_channels_in_caffes_order(tmp_path: Path) -> None:
    mean = draw(3, 8, 8)
    (tmp_path / "mean").write_bytes(blob(mean[None], old=True))
    assert np.array_equal(read_mean(tmp_path / "mean"), mean)
    (tmp_path / "mean").write_bytes(blob(draw(3, 8, 4), old=True))
    with pytest.raises(CheckpointCorrupt, match="not one square image"):
        read_mean(tmp_path / "mean")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "contains no layer"),
        (counted(1, b"name"), "contains no layer"),
        (b"\xff" * 20, "more than 64 bits"),
        (varint(2 << 3 | 2) + varint(1 << 60), "reaches beyond the end"),
        (varint(2 << 3 | 3), "wire type 3"),
        (b"\x12", "ends in the middle of a number"),
        (counted(2, counted(6, number(1, 5) + counted(5, b"\0" * 4))), "has 1 values"),
        (counted(2, counted(6, number(1, 1 << 62) + number(2, 1 << 62))), "has 0 values"),
        (counted(2, counted(6, counted(5, b"\0" * 3))), "in the middle of one"),
        (counted(2, counted(6, varint(5 << 3 | 5) + b"\0" * 4)), "not packed"),
        (counted(2, counted(4, b"\xff\xfe") + counted(6, counted(5, b"\0" * 4))), "can't be read"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CheckpointCorrupt, match=says):
        read_layers(tmp_path / "a")


def test_a_damaged_model_is_said_to_be_one_or_has_other_numbers(tmp_path: Path) -> None:
    content, chance = model({"conv1": [draw(2, 3, 3, 3), draw(2)]}, old=False), random.Random(0)
    for _ in range(500):
        changed = bytearray(content)
        changed[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        (tmp_path / "a").write_bytes(changed[: chance.randrange(len(changed) + 1)])
        try:
            read_layers(tmp_path / "a")
        except CheckpointCorrupt:
            continue
