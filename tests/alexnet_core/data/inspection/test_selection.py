"""Images of a pack are found by split, class, index and position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from alexnet_core.data.inspection.selection import count_by_class, describe, find_label, find_position, select
from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.pack import TEST, TRAIN, VALIDATION, Pack
from alexnet_core.data.pack_draft import write_pack
from tests.alexnet_core.data.intake.test_packing import write_classes

#           0      1     2           3      4     5     6
SPLIT = [TRAIN, TEST, VALIDATION, TRAIN, TRAIN, TEST, VALIDATION]
LABELS = [0, 0, 1, 1, 0, 1, 0]


@pytest.fixture
def pack(tmp_path: Path) -> Pack:
    return write_pack(
        tmp_path / "pack",
        name="small",
        class_names=("cat", "dog"),
        images_NHWC=np.arange(7, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2),
        labels_N=np.array(LABELS),
        split_N=np.array(SPLIT, np.uint8),
        flip_safe=True,
    )


@pytest.mark.parametrize(
    ("split", "label", "positions"),
    [
        (None, None, [0, 3, 4, 2, 6, 1, 5]),
        ("train", None, [0, 3, 4]),
        ("test", 1, [5]),
        (None, 1, [3, 2, 5]),
        ("validation", 0, [6]),
    ],
)
def test_images_are_selected_by_split_and_class(
    pack: Pack, split: str | None, label: int | None, positions: list[int]
) -> None:
    assert select(pack, split=split, label=label).tolist() == positions


def test_index_and_position_lead_to_each_other(pack: Pack) -> None:
    for place in describe(pack, select(pack)):
        assert find_position(pack, place.split, place.index) == place.position
        assert place.label == pack.class_names[pack.labels[place.position]]
        assert place.file is None
    assert find_position(pack, "train", 3) is None
    assert find_position(pack, "train", -1) is None
    assert (find_label(pack, "dog"), find_label(pack, "cow")) == (1, None)


def test_counts_are_by_class_and_split(pack: Pack) -> None:
    assert count_by_class(pack).tolist() == [[2, 1, 1], [1, 1, 1]]


def test_images_are_described_with_their_files(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"train/a": 3, "train/b": 3, "val/a": 2, "val/b": 2, "test/b": 1})
    pack = pack_images(folder, tmp_path / "mine-pack", IntakeOptions(name="mine"))
    found = describe(pack, select(pack, split="validation"))
    assert [(place.split, place.index, place.label, place.file) for place in found] == [
        ("validation", 0, "a", "val/a/000.png"),
        ("validation", 1, "a", "val/a/001.png"),
        ("validation", 2, "b", "val/b/000.png"),
        ("validation", 3, "b", "val/b/001.png"),
    ]
