"""The names of the files that images were read from stay with their pack."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from alexnet_core.data.file_names import FileNames, open_file_names, write_file_names
from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.pack import open_pack
from tests.alexnet_core.data.intake.test_packing import write_classes, write_image

NAMES = ["cat/1.png", "cat/zwei\nZeilen.png", "d\u00f6g/\u732b.png", os.fsdecode(b"dog/\xff.png"), ""]


def opened(folder: Path, num_images: int) -> FileNames:
    names = open_file_names(folder, num_images)
    assert names is not None
    return names


def test_each_name_comes_back_by_the_index_of_its_image(tmp_path: Path) -> None:
    write_file_names(tmp_path, NAMES)
    names = opened(tmp_path, len(NAMES))
    shown = [*NAMES[:3], "dog/\\udcff.png", ""]
    assert len(names) == len(NAMES)
    assert list(names) == shown
    assert names[1:3] == shown[1:3]
    assert names.read([4, 0, 0]) == ["", "cat/1.png", "cat/1.png"]
    with pytest.raises(IndexError, match="there are 5 images"):
        names[5]
    with pytest.raises(IndexError):
        names[-1]


def test_a_pack_of_files_has_their_names_in_the_order_of_its_images(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"cat": 4, "dog": 3})
    (folder / "cat" / "000a.png").write_bytes(b"no image")
    for number in range(100, 120):  # so that one damaged file among them is tolerated
        write_image(folder / "dog" / f"{number}.png", number)
    pack = pack_images(folder, tmp_path / "pack", IntakeOptions(name="mine"))
    names = opened(pack.path, len(pack.labels))
    assert names[:5] == ["cat/000.png", "cat/001.png", "cat/002.png", "cat/003.png", "dog/000.png"]
    for index, name in enumerate(names):
        assert name is not None
        assert name.split("/")[0] == pack.class_names[pack.labels[index]]


def test_other_names_do_not_make_another_dataset(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"cat": 4, "dog": 3})
    first = pack_images(folder, tmp_path / "first", IntakeOptions(name="mine"))
    for file in list(folder.rglob("*.png")):
        file.rename(file.with_name(f"photo-{file.name}"))
    second = pack_images(folder, tmp_path / "second", IntakeOptions(name="mine"))
    assert second.digest == first.digest
    assert opened(second.path, 7)[0] == "cat/photo-000.png"
    assert open_pack(first.path).digest == first.digest


def test_a_pack_without_names_or_with_damaged_ones_still_opens(tmp_path: Path) -> None:
    pack = pack_images(write_classes(tmp_path / "mine", {"a": 4, "b": 3}), tmp_path / "pack", IntakeOptions(name="m"))
    num_images = len(pack.labels)
    names, starts = pack.path / "file_names.jsonl", pack.path / "file_names.npy"
    whole = names.read_bytes(), starts.read_bytes()

    def damage(name_bytes: bytes | None, start_bytes: bytes | None) -> FileNames | None:
        for path, content in ((names, name_bytes), (starts, start_bytes)):
            path.unlink(missing_ok=True)
            if content is not None:
                path.write_bytes(content)
        open_pack(pack.path).verify()
        return open_file_names(pack.path, num_images)

    assert damage(None, None) is None
    assert damage(None, whole[1]) is None
    assert damage(whole[0], None) is None
    assert damage(whole[0][:-1], whole[1]) is None, "the last name was cut off"
    assert damage(whole[0], whole[1][:-8]) is None
    assert damage(whole[0], b"\x00" * 100) is None
    spoiled = damage(b"{" + whole[0][1:], whole[1])
    assert spoiled is not None
    assert spoiled[0] is None
    assert spoiled[1] == "a/001.png"
    assert damage(*whole) is not None
    assert open_file_names(pack.path, num_images + 1) is None


def test_names_by_starts_that_run_backwards_are_not_used(tmp_path: Path) -> None:
    write_file_names(tmp_path, ["a", "b", "c"])
    starts = np.load(tmp_path / "file_names.npy")
    np.save(tmp_path / "file_names.npy", starts[[0, 2, 1, 3]])
    assert open_file_names(tmp_path, 3) is None
    np.save(tmp_path / "file_names.npy", starts.astype(np.float64))
    assert open_file_names(tmp_path, 3) is None


def test_a_link_in_the_place_of_the_names_is_not_followed(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "pack", tmp_path / "elsewhere"
    for place in (folder, elsewhere):
        place.mkdir()
        write_file_names(place, ["a", "b"])
    (folder / "file_names.jsonl").unlink()
    (folder / "file_names.jsonl").symlink_to(elsewhere / "file_names.jsonl")
    assert open_file_names(folder, 2) is None
    shutil.rmtree(elsewhere)
    assert open_file_names(folder, 2) is None
