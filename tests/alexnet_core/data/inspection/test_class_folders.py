"""Images of a pack get paths that every system can write, that lead nowhere else, and that make the dataset again."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

import numpy as np
import pytest

from alexnet_core.data.inspection.class_folders import list_image_files, make_safe, name_folders
from alexnet_core.data.inspection.comparison import Contents, compare
from alexnet_core.data.inspection.thumbnails import draw_image
from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.pack_draft import write_pack
from tests.alexnet_core.data.inspection.test_thumbnails import write_noise
from tests.alexnet_core.data.intake.test_packing import write_classes


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("cat", "cat"),
        ("T-shirt/top", "T-shirt_top"),
        ("..", ""),
        ("../../etc/passwd", ".._.._etc_passwd"),
        ("C:\\Windows", "C__Windows"),
        ("con", "con_"),
        ("Lpt1.x", "Lpt1.x_"),
        ("ends. . ", "ends"),
        ("a\x00b\nc", "a_b_c"),
        ("\u732b" * 100, "\u732b" * 40),
        ("e\u0301", "\u00e9"),
        (' "quoted"?', "_quoted__"),
    ],
)
def test_a_name_becomes_one_that_can_be_written(name: str, safe: str) -> None:
    assert make_safe(name) == safe


def test_folders_are_distinct_where_case_does_not_matter() -> None:
    assert name_folders(["a/b", "a:b", "A_B", ".hidden", "..", "", "\u732b"]) == [
        "a_b",
        "a_b-1",
        "A_B-2",
        "class.hidden",
        "class",
        "class-5",
        "\u732b",
    ]
    assert len(set(name_folders(["x", "X", "x-1", "X-2"]))) == 4


def test_no_path_leads_out_and_none_is_there_twice(tmp_path: Path) -> None:
    names = ("..", "../../x", "/etc", "nul", "a\\b")
    pack = write_pack(
        tmp_path / "pack",
        name="evil",
        class_names=names,
        images_NHWC=np.zeros((15, 8, 8, 1), np.uint8),
        labels_N=np.arange(15) % 5,
        split_N=(np.arange(15) % 3).astype(np.uint8),
        flip_safe=True,
    )
    paths = [file.path for file in list_image_files(pack)]
    assert len({path.casefold() for path in paths}) == 15
    for path in paths:
        parts = PurePosixPath(path).parts
        assert len(parts) == 3
        assert not {"..", "/"} & set(parts)
        assert parts[0] in {"train", "validation", "test"}
        assert "\\" not in path


def test_files_keep_their_own_names_behind_a_number(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"train/cat": 1, "train/dog": 1, "val/cat": 1, "val/dog": 1})
    pack = pack_images(folder, tmp_path / "pack", IntakeOptions(name="mine"))
    assert {file.path for file in list_image_files(pack)} <= {
        "train/cat/000000-000.png",
        "train/dog/000001-000.png",
        "validation/cat/000002-000.png",
        "validation/dog/000003-000.png",
    }
    bare = write_noise(tmp_path / "bare", 3, 8, 1)
    assert [file.path for file in list_image_files(bare)] == [
        "train/a/000000.png",
        "validation/b/000001.png",
        "test/a/000002.png",
    ]


def test_the_export_can_be_read_again_to_the_same_images(tmp_path: Path) -> None:
    pack = pack_images(write_classes(tmp_path / "mine", {"cat": 30, "dog": 20}), tmp_path / "pack", IntakeOptions("m"))
    for file in list_image_files(pack):
        path = tmp_path / "export" / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(draw_image(pack, file.position))
    again = pack_images(tmp_path / "export", tmp_path / "again", IntakeOptions("m"))
    diff = compare(Contents.of(pack), Contents.of(again))
    assert (diff.is_comparable, diff.num_unchanged, diff.num_added, diff.num_moved) == (True, 50, 0, 0)
