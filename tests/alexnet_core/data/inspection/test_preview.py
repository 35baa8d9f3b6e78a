"""A preview shows some training images of each class beside its name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexnet_core.data.inspection.preview import PREVIEW_CLASSES, choose_examples, draw_preview
from alexnet_core.data.pack import TRAIN, Pack
from alexnet_core.data.pack_draft import write_pack
from tests.alexnet_core.data.inspection.test_thumbnails import read_png


def write_levels(target: Path, names: tuple[str, ...], each: int = 12) -> Pack:
    """Every image of class k is of one grey level, 10 * k."""
    labels = np.arange(len(names) * each) % len(names)
    images = np.broadcast_to((10 * labels).astype(np.uint8)[:, None, None, None], (len(labels), 8, 8, 1))
    return write_pack(
        target,
        name="levels",
        class_names=names,
        images_NHWC=np.ascontiguousarray(images),
        labels_N=labels,
        split_N=np.full(len(labels), TRAIN, np.uint8),
        flip_safe=True,
    )


def test_each_row_shows_ten_images_of_its_class(tmp_path: Path) -> None:
    pack = write_levels(tmp_path / "pack", ("dark", "darker", "less dark"))
    picture = read_png(draw_preview(pack, px=24))
    tiles = picture[:, -10 * 26 :, 0]
    for row in range(3):
        for column in range(10):
            tile = tiles[2 + row * 26 : 26 + row * 26, column * 26 : column * 26 + 24]
            assert (tile == 10 * row).all(), (row, column)
    names = picture[:, : -10 * 26, 0]
    for row in range(3):
        assert (names[2 + row * 26 : 26 + row * 26] < 100).any(), "the name is written"


def test_a_class_with_few_images_leaves_white(tmp_path: Path) -> None:
    picture = read_png(draw_preview(write_levels(tmp_path / "pack", ("a", "b"), each=3), px=24))
    tiles = picture[2:26, -10 * 26 :, 0]
    assert (tiles[:, : 3 * 26 - 2].reshape(24, -1, 1) == 0).mean() > 0.9
    assert (tiles[:, 3 * 26 :] == 255).all()


def test_examples_are_evenly_spaced_and_never_twice_the_same(tmp_path: Path) -> None:
    pack = write_levels(tmp_path / "pack", ("a", "b"), each=100)
    examples = choose_examples(pack, 1)
    assert (examples[0], examples[-1], len(set(examples))) == (1, 199, 10)
    assert {int(pack.labels[position]) for position in examples} == {1}


def test_many_classes_come_in_several_pictures(tmp_path: Path) -> None:
    pack = write_levels(tmp_path / "pack", tuple(f"class {n:02}" for n in range(PREVIEW_CLASSES + 3)), each=2)
    assert read_png(draw_preview(pack, px=24)).shape[0] == PREVIEW_CLASSES * 26 + 2
    assert read_png(draw_preview(pack, PREVIEW_CLASSES, px=24)).shape[0] == 3 * 26 + 2
    for first in (PREVIEW_CLASSES + 3, -1):
        with pytest.raises(ValueError, match="there are 23 classes"):
            draw_preview(pack, first)


def test_long_and_foreign_names_fit(tmp_path: Path) -> None:
    long = read_png(draw_preview(write_levels(tmp_path / "long", ("w" * 100, "b")), px=24))
    assert long.shape[1] <= 180 + 12 + 10 * 26
    other = write_levels(tmp_path / "other", ("\u732b", "\u041a\u043e\u0442"))
    number = write_levels(tmp_path / "number", ("class 0", "\u041a\u043e\u0442"))
    assert draw_preview(other) == draw_preview(number), "the font has no Chinese, so the class is shown by its number"
