"""Folders of images become packs, with a report of what was found."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import textwrap
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.__main__ import main
from alexnet_core.commands.datasets import open_dataset
from alexnet_core.data import image_readers
from alexnet_core.data.image_readers import BoundedFile
from alexnet_core.data.images import decode_square
from alexnet_core.data.intake import packing
from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_files, pack_images
from alexnet_core.data.layouts.folders import read_layout
from alexnet_core.data.pack import TEST, VALIDATION, Pack, open_pack
from alexnet_core.data.pack_draft import PackDraft
from alexnet_core.errors import DatasetDamaged, DatasetInvalid, DatasetUnavailable, ImageTooLarge
from tests.alexnet_core.archive_files import (
    Entry,
    compress,
    end_of_zip64,
    raw_zip,
    tar_member,
    tar_of,
    two_classes,
    zip_of,
)

OPTIONS = IntakeOptions(name="mine", threads=2)


def write_image(path: Path, seed: int, size: tuple[int, ...] = (12, 12, 3)) -> NDArray[np.uint8]:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, size).astype(np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def write_classes(folder: Path, counts: dict[str, int], size: tuple[int, ...] = (12, 12, 3)) -> Path:
    """Folders of different images; `a` or `train/a`."""
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            write_image(folder / name / f"{index:03d}.png", 1000 * number + index, size)
    return folder


def report_of(pack: Pack) -> dict[str, Any]:
    report: dict[str, Any] = json.loads((pack.path / "report.json").read_text())
    return report


def refuse(folder: Path, target: Path, options: IntakeOptions = OPTIONS) -> DatasetInvalid:
    with pytest.raises(DatasetInvalid) as exc:
        pack_images(folder, target, options)
    assert not target.exists()
    assert not target.parent.exists() or not list(target.parent.glob(".tmp*"))
    assert json.dumps(exc.value.report)
    return exc.value


def test_class_folders_become_a_pack_with_the_very_pixels_of_small_images(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"cat": 30, "dog": 20})
    pack = pack_images(folder, tmp_path / "packs" / "mine", OPTIONS)
    pack.verify()
    assert (pack.class_names, pack.facts.image_px, pack.channels, pack.facts.flip_safe) == (("cat", "dog"), 12, 3, True)
    assert np.array_equal(pack.images[31], np.array(Image.open(folder / "dog" / "001.png")))
    assert pack.labels.tolist() == [0] * 30 + [1] * 20
    report = report_of(pack)
    assert report["classes"] == [
        {"name": "cat", "train": 24, "validation": 3, "test": 3},
        {"name": "dog", "train": 16, "validation": 2, "test": 2},
    ]
    assert (report["made_splits"], report["rejected"], report["num_images"]) == (["validation", "test"], [], 50)
    assert report["warnings"] == ["1 classes have fewer than 20 images to train on: 'dog'"]
    again = pack_images(folder, tmp_path / "again", OPTIONS)
    assert again.digest == pack.digest, "the splits are always the same"


def test_grey_stays_grey_and_large_images_are_scaled(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 3, "b": 3}, (30, 40))
    pack = pack_images(folder, tmp_path / "pack", IntakeOptions(name="mine", image_px=16, flip_safe=False))
    assert pack.images.shape == (6, 16, 16, 1)
    assert not pack.facts.flip_safe
    write_image(folder / "a" / "colour.png", 9, (300, 280, 3))
    larger = pack_images(folder, tmp_path / "larger", OPTIONS)
    assert larger.images.shape == (7, 256, 256, 3)
    assert "6 images are smaller than 256 px and were enlarged" in report_of(larger)["warnings"]


def test_the_splits_of_the_folder_are_kept_and_a_missing_one_is_made(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"train/a": 20, "train/b": 20, "test/a": 3, "test/b": 2})
    pack = pack_images(folder, tmp_path / "pack", OPTIONS)
    assert [len(pack.list_indices(split)) for split in ("train", "validation", "test")] == [36, 4, 5]
    assert report_of(pack)["made_splits"] == ["validation"]
    assert pack.split[-5:].tolist() == [TEST] * 5


def test_an_image_that_is_there_often_is_on_one_side_only(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 40, "b": 40})
    for number in range(10):
        for name in "ab":
            copy = folder / name / f"copy-{number}.bmp"  # other bytes, the same pixels
            Image.open(folder / "a" / f"{number:03d}.png").save(copy)
    pack = pack_images(folder, tmp_path / "pack", OPTIONS)
    sides = [{pack.images[i].tobytes() for i in pack.list_indices(split)} for split in ("train", "validation", "test")]
    assert all(sides)
    assert not sides[0] & sides[1]
    assert not sides[0] & sides[2]
    assert not sides[1] & sides[2]
    duplicates = report_of(pack)["duplicates"]
    assert [duplicates[key] for key in ("num_copies", "num_across_splits", "num_across_classes")] == [20, 0, 10]
    assert ["a/000.png", "a/copy-0.bmp", "b/copy-0.bmp"] in duplicates["across_classes"]


def test_duplicates_across_the_splits_of_the_folder_are_reported(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"train/a": 9, "train/b": 9, "val/a": 2, "test/b": 2})
    Image.open(folder / "train/a/000.png").save(folder / "test/b/copy.png")
    report = report_of(pack_images(folder, tmp_path / "pack", OPTIONS))
    assert report["duplicates"]["across_splits"] == [["train/a/000.png", "test/b/copy.png"]]
    assert any("in more than one split" in warning for warning in report["warnings"])


def test_unusable_files_are_rejected_each_with_its_reason(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 60, "b": 60})
    whole = (folder / "a" / "000.png").read_bytes()
    (folder / "a" / "cut.png").write_bytes(whole[:-100])
    (folder / "a" / "notes.txt").write_text("hello")
    (folder / "b" / "empty.jpg").touch()
    (folder / "b" / "link.png").symlink_to(folder / "a" / "000.png")
    os.mkfifo(folder / "b" / "pipe.png")
    write_image(folder / "b" / "wide.png", 1, (20, 2000, 3))
    (folder / "none").mkdir()
    (folder / "readme.md").touch()
    pack = pack_images(folder, tmp_path / "pack", IntakeOptions(name="x", max_pixels=30_000))
    report = report_of(pack)
    assert {item["file"]: item["code"] for item in report["rejected"]} == {
        "a/cut.png": "image_unreadable",
        "a/notes.txt": "image_format_unsupported",
        "b/empty.jpg": "image_format_unsupported",
        "b/link.png": "image_unreadable",
        "b/pipe.png": "image_unreadable",
        "b/wide.png": "image_too_large",
    }
    assert all(item["reason"] for item in report["rejected"])
    assert (report["num_files"], report["num_images"], len(pack.labels)) == (126, 120, 120)
    assert (report["outside_classes"], report["empty_classes"]) == (["readme.md"], ["none"])


def test_a_file_of_too_many_bytes_is_rejected(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 30, "b": 30})
    write_image(folder / "a" / "large.png", 5, (40, 40, 3))
    pack = pack_images(folder, tmp_path / "pack", IntakeOptions(name="x", max_file_bytes=2000))
    [rejected] = report_of(pack)["rejected"]
    assert (rejected["file"], rejected["code"]) == ("a/large.png", "image_too_large")


@pytest.mark.parametrize(
    ("counts", "problem"),
    [
        ({}, "no_images"),
        ({"a": 5}, "too_few_classes"),
        ({"a": 1, "b": 1}, "too_few_images"),
        ({"train/a": 5, "train/b": 5, "test/c": 1}, "class_without_training_images"),
    ],
)
def test_what_no_run_could_be_made_of_is_refused(tmp_path: Path, counts: dict[str, int], problem: str) -> None:
    (tmp_path / "mine").mkdir()
    error = refuse(write_classes(tmp_path / "mine", counts), tmp_path / "packs" / "pack")
    assert error.problem == problem


def test_a_dataset_of_one_image_many_times_is_refused(tmp_path: Path) -> None:
    for index in range(40):
        write_image(tmp_path / "mine" / "ab"[index % 2] / f"{index}.png", 7)
    assert refuse(tmp_path / "mine", tmp_path / "packs" / "pack").problem == "too_few_images"


def test_too_many_classes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 20, "b": 20, "c": 20})
    monkeypatch.setattr(packing, "MAX_CLASSES", 3)
    pack_images(folder, tmp_path / "packs" / "pack", OPTIONS)
    monkeypatch.setattr(packing, "MAX_CLASSES", 2)
    error = refuse(folder, tmp_path / "packs" / "other")
    assert (error.problem, "there are 3 classes, and at most 2" in str(error)) == ("too_many_classes", True)


@pytest.mark.parametrize("where", ["header", "pixels"])
def test_more_than_a_twentieth_of_unusable_files_is_refused(tmp_path: Path, where: str) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 19, "b": 19})
    whole = (folder / "a" / "000.png").read_bytes()
    spoiled = b"nothing" if where == "header" else whole[:-100]
    for number in range(2):
        (folder / "a" / f"bad-{number}.png").write_bytes(spoiled)
    assert report_of(pack_images(folder, tmp_path / "packs" / "pack", OPTIONS))["num_images"] == 38
    (folder / "a" / "bad-2.png").write_bytes(spoiled)
    error = refuse(folder, tmp_path / "packs" / "other")
    assert error.problem == "too_many_rejected"
    assert "3 of 41 files are no usable images, more than 5%. 'a/bad-0.png': The" in str(error)
    assert error.report is not None
    assert len(error.report["rejected"]) == 3


def test_a_file_that_turns_out_to_be_damaged_does_not_decide_size_and_colour(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 15, "b": 15}, (8, 8))
    noise = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 90, 3)).astype(np.uint8)).save(noise, "PNG")
    (folder / "a" / "large.png").write_bytes(noise.getvalue()[:5_000])
    seen: list[tuple[int, int]] = []
    pack = pack_images(folder, tmp_path / "packs" / "p", OPTIONS, on_progress=lambda *pair: seen.append(pair))
    assert pack.images.shape == (30, 8, 8, 1)
    report = report_of(pack)
    assert (report["image_px"], report["channels"], len(report["rejected"])) == (8, 1, 1)
    assert not any("enlarged" in warning for warning in report["warnings"])
    assert seen[-1] == (62, 62)
    assert [path.name for path in (tmp_path / "packs").iterdir()] == ["p"]


def test_of_a_file_that_is_too_large_no_more_than_that_is_read(tmp_path: Path) -> None:
    """Some decoders read all of a file to know its header."""
    folder = write_classes(tmp_path / "mine", {"a": 20, "b": 20})
    with (folder / "a" / "sparse.webp").open("wb") as file:
        file.write(b"RIFF" + (300_000_000).to_bytes(4, "little") + b"WEBPVP8 ")
        file.truncate(300_000_000)
    pack = pack_images(folder, tmp_path / "pack", IntakeOptions(name="mine", max_file_bytes=100_000))
    [rejection] = report_of(pack)["rejected"]
    assert (rejection["code"], rejection["reason"]) == ("image_too_large", "The file has more than 100,000 bytes.")
    content = (folder / "a" / "000.png").read_bytes()
    assert BoundedFile(io.BytesIO(content), len(content)).read() == content
    with pytest.raises(ImageTooLarge):
        BoundedFile(io.BytesIO(content), len(content) - 1).read()


def test_small_classes_and_imbalance_are_warned_of(tmp_path: Path) -> None:
    report = report_of(pack_images(write_classes(tmp_path / "m", {"a": 203, "b": 2}), tmp_path / "pack", OPTIONS))
    assert report["warnings"] == [
        "1 classes have fewer than 20 images to train on: 'b'",
        "'a' has more than 100 times as many images as 'b'",
    ]
    assert report["classes"][1] == {"name": "b", "train": 1, "validation": 1, "test": 0}


def test_files_of_an_archive_are_packed_without_unpacking_it(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"cat": 12, "dog": 12})
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.rglob("*.png")):
            archive.write(path, f"wrapped/{path.relative_to(folder)}")
    with zipfile.ZipFile(buffer) as archive:
        pack = pack_files(read_layout(archive.namelist()), archive.open, tmp_path / "zipped", OPTIONS)
    assert pack.digest == pack_images(folder, tmp_path / "pack", OPTIONS).digest


@pytest.mark.parametrize("how", ["zip", "", "gz", "zst"])
def test_an_archive_gives_the_same_pack_as_its_folder(tmp_path: Path, how: str) -> None:
    folder = write_classes(tmp_path / "mine", {"train/cat": 12, "train/dog": 12, "Valid/cat": 3, "testing/dog": 2})
    (folder / ".DS_Store").touch()
    members = {f"mine/{path.relative_to(folder)}": path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    archive = tmp_path / "archive"
    archive.write_bytes(zip_of(members) if how == "zip" else compress(tar_of(members), how))
    pack = pack_images(archive, tmp_path / "packs" / "one", OPTIONS)
    assert pack.digest == pack_images(folder, tmp_path / "packs" / "two", OPTIONS).digest
    report = report_of(pack)
    assert report["num_junk"] == 1
    assert report["layout"] == {
        "kind": "class_folders",
        "notes": [
            "the folder 'mine' is around everything and was looked through",
            "the folder 'Valid' was taken for the validation split",
            "the folder 'testing' was taken for the test split",
            "1 hidden files and files of the operating system were ignored",
        ],
    }
    assert sorted(path.name for path in (tmp_path / "packs").iterdir()) == ["one", "two"]


def test_of_an_archive_each_rejected_member_has_its_reason(tmp_path: Path) -> None:
    members = two_classes(60)
    notes = {"a/notes.txt": b"hello", "b/cut.png": members["b/000.png"][:-100]}
    link = tar_member("a/link.png", kind=tarfile.SYMTYPE, linkname="000.png")
    for name, content in {
        "tar": tar_of(members | notes, link),
        "zip": raw_zip(
            [Entry(name.encode(), content) for name, content in (members | notes).items()]
            + [Entry(b"a/link.png", b"000.png", mode=stat.S_IFLNK)]
        ),
    }.items():
        (tmp_path / name).write_bytes(content)
        report = report_of(pack_images(tmp_path / name, tmp_path / f"pack-{name}", OPTIONS))
        assert {item["file"]: item["code"] for item in report["rejected"]} == {
            "a/notes.txt": "image_format_unsupported",
            "b/cut.png": "image_unreadable",
            "a/link.png": "image_unreadable",
        }
        [reason] = [item["reason"] for item in report["rejected"] if item["file"] == "a/link.png"]
        assert reason.startswith("It is a link")
        assert report["num_images"] == 120


def test_a_refused_archive_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "evil.tar.gz").write_bytes(compress(tar_of(two_classes(), tar_member("../../evil.png", b"x")), "gz"))
    with pytest.raises(DatasetInvalid) as exc:
        pack_images(tmp_path / "evil.tar.gz", tmp_path / "packs" / "pack", OPTIONS)
    assert exc.value.problem == "archive_unsafe"
    assert [str(path.relative_to(tmp_path)) for path in sorted(tmp_path.rglob("*"))] == ["evil.tar.gz", "packs"]
    with pytest.raises(DatasetUnavailable, match="no folder and no file"):
        pack_images(tmp_path / "nothing.zip", tmp_path / "packs" / "pack", OPTIONS)


def test_fractions_and_seed_choose_what_is_held_back(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 40, "b": 20})
    options = IntakeOptions(name="x", validation_fraction=0.25, test_fraction=0.5, threads=2)
    pack = pack_images(folder, tmp_path / "one", options)
    assert report_of(pack)["classes"] == [
        {"name": "a", "train": 15, "validation": 10, "test": 15},
        {"name": "b", "train": 7, "validation": 5, "test": 8},
    ]
    other = pack_images(folder, tmp_path / "two", replace(options, split_seed=1))
    assert other.digest != pack.digest
    assert (other.split == TEST).sum() == 23
    for value in (0.0, 0.51, float("nan")):
        with pytest.raises(ValueError, match="validation_fraction is"):
            replace(options, validation_fraction=value)
        with pytest.raises(ValueError, match="test_fraction is"):
            replace(options, test_fraction=value)


def test_images_are_read_again_for_the_digest_only_where_the_counts_were_not_foreseen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that turns out to be damaged is not foreseen; copies are, where other images take their place."""
    num_read, read = 0, PackDraft._read_chunks

    def count_read(draft: PackDraft) -> Any:
        nonlocal num_read
        num_read += 1
        return read(draft)

    monkeypatch.setattr(PackDraft, "_read_chunks", count_read)
    folder = write_classes(tmp_path / "mine", {"a": 30, "b": 41})
    shutil.copy(folder / "a" / "000.png", folder / "a" / "copy.png")
    given = write_classes(tmp_path / "given", {"train/a": 10, "train/b": 7, "val/a": 3, "val/b": 2, "test/b": 4})
    halves = IntakeOptions(name="mine", validation_fraction=0.3, test_fraction=0.5)
    for number, (images, options) in enumerate([(folder, OPTIONS), (folder, halves), (given, OPTIONS)]):
        pack_images(images, tmp_path / f"pack_{number}", options).verify()
    assert num_read == 0
    whole = (folder / "b" / "000.png").read_bytes()
    (folder / "b" / "cut.png").write_bytes(whole[: len(whole) - 60])
    pack = pack_images(folder, tmp_path / "again", OPTIONS)
    pack.verify()
    assert (num_read, len(pack.images), report_of(pack)["num_rejected"]) == (1, 72, 1)
    assert pack.digest == open_pack(tmp_path / "pack_0").digest


def test_few_images_are_in_memory_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the writer is."""
    alive, most, lock = 0, 0, threading.Lock()
    decode, append = decode_square, PackDraft.append

    def count_decode(*arguments: Any, **options: Any) -> Any:
        nonlocal alive, most
        with lock:
            alive += 1
            most = max(most, alive)
        return decode(*arguments, **options)

    def count_append(draft: Any, images: Any) -> None:
        nonlocal alive
        append(draft, images)
        with lock:
            alive -= len(images)

    monkeypatch.setattr(image_readers, "decode_square", count_decode)
    monkeypatch.setattr(PackDraft, "append", count_append)
    folder = write_classes(tmp_path / "mine", {"a": 30, "b": 30}, (256, 256, 3))
    pack_images(folder, tmp_path / "pack", OPTIONS)
    assert alive == 0
    assert 0 < most <= 20, "four times a megabyte"


def test_progress_is_told_and_can_end_the_work(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 20, "b": 19})
    (folder / "b" / "bad.png").touch()
    seen: list[tuple[int, int]] = []
    pack_images(folder, tmp_path / "packs" / "one", OPTIONS, on_progress=lambda *pair: seen.append(pair))
    assert seen[-1] == (80, 80)
    assert seen == sorted(seen)

    def stop(done: int, total: int) -> None:
        if done == 50:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pack_images(folder, tmp_path / "packs" / "two", OPTIONS, on_progress=stop)
    assert [path.name for path in (tmp_path / "packs").iterdir()] == ["one"]


# --- the command line ---


def prepare(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    status = main(["prepare", *map(str, arguments)])
    [line] = capsys.readouterr().out.splitlines()
    answer: dict[str, Any] = json.loads(line)
    return status, answer


def test_prepare_packs_a_folder_and_prints_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 10, "b": 10})
    options = ["--image-px", "8", "--no-flip", "--name", "ours"]
    status, answer = prepare(capsys, "--dataset", folder, "--target", tmp_path / "pack", *options)
    assert status == 0
    assert [answer[key] for key in ("name", "image_px", "flip_safe")] == ["ours", 8, False]
    assert answer["report"]["num_images"] == 20
    status, answer = prepare(capsys, "--dataset", folder / "a", "--target", tmp_path / "other")
    assert status == 1
    assert (answer["error"]["code"], answer["error"]["problem"]) == ("dataset_invalid", "no_images")
    assert answer["report"]["outside_classes"]
    status, answer = prepare(capsys, "--dataset", tmp_path / "nothing", "--target", tmp_path / "other")
    assert (status, answer["error"]["code"]) == (1, "dataset_unavailable")


def test_prepare_packs_an_archive_and_says_in_one_line_why_it_refuses_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "pictures.tar.zst"
    archive.write_bytes(compress(tar_of(two_classes(20)), "zst"))
    fractions = ["--validation-fraction", "0.2", "--test-fraction", "0.5", "--split-seed", "3"]
    status, answer = prepare(capsys, "--dataset", archive, "--target", tmp_path / "pack", *fractions)
    assert (status, answer["name"]) == (0, "pictures")
    assert [answer[key] for key in ("num_train", "num_val", "num_test")] == [16, 8, 16]
    for limit in (["--max-entries", "39"], ["--max-unpacked-bytes", "1000"]):
        status, answer = prepare(capsys, "--dataset", archive, "--target", tmp_path / "other", *limit)
        assert (status, answer["error"]["problem"]) == (1, "archive_too_large")
    archive.write_bytes(archive.read_bytes()[:-50])
    status, answer = prepare(capsys, "--dataset", archive, "--target", tmp_path / "other")
    assert (status, answer["error"]["problem"]) == (1, "archive_damaged")
    assert "Send the whole file" in answer["error"]["message"]


def test_a_full_disk_is_named_and_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a compressed tar the contents are written first, then the pack."""
    archive = tmp_path / "mine.tar.gz"
    archive.write_bytes(compress(tar_of(two_classes(20)), "gz"))

    def fail(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for method in (
        "alexnet_core.data.pack_draft.PackDraft.append",
        "alexnet_core.data.archives.tar_source._ForwardStream.copy",
    ):
        with monkeypatch.context() as patch:
            patch.setattr(method, fail)
            status, answer = prepare(capsys, "--dataset", archive, "--target", tmp_path / "packs" / "one")
        assert (status, answer["error"]["code"]) == (1, "disk_full")
        assert list((tmp_path / "packs").iterdir()) == []


@pytest.mark.parametrize("kind", ["zip of one large file", "tar.gz of one large file", "zip of a million entries"])
def test_a_bomb_costs_two_seconds_and_300_megabytes_at_most(tmp_path: Path, kind: str) -> None:
    """A process of its own is measured, with its interpreter and libraries (Linux)."""
    if kind == "zip of a million entries":
        entry = Entry(b"a/1")
        central = entry.central(0) * 1_000_000
        at = len(entry.local()) + len(central)
        content = entry.local() + central + end_of_zip64(1_000_000, len(central), len(entry.local()), at)
    else:
        large = bytes(300 << 20)
        content = zip_of({"a/1.bmp": large}) if kind.startswith("zip") else compress(tar_of({"a/1.bmp": large}), "gz")
    (tmp_path / "bomb").write_bytes(content)
    code = """
        import sys, time
        from pathlib import Path
        from alexnet_core.__main__ import main
        import alexnet_core.data.intake.packing
        before = time.process_time()
        assert main(["prepare", "--dataset", "bomb", "--target", "packs/pack"]) == 1
        after = time.process_time()
        status = Path("/proc/self/status").read_text()  # getrusage would tell the memory of whoever started this
        print(after - before, status.partition("VmHWM:")[2].split()[0], file=sys.stderr)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout)["error"]["problem"] in {"archive_bomb", "archive_too_large"}
    cpu_s, rss_kb = map(float, done.stderr.split())
    assert cpu_s < 2
    assert rss_kb < 300_000
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["bomb"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--dataset", "digits", "--no-flip"], "are for folders"),
        (["--dataset", "digits", "--max-entries", "3"], "are for folders"),
        (["--dataset", ".", "--test-fraction", "0.6"], "--test-fraction is 0.6: use 0.01 to 0.5"),
        (["--dataset", ".", "--validation-fraction", "0"], "--validation-fraction is 0.0: use 0.01 to 0.5"),
        (["--dataset", ".", "--source", "x"], "--source is for built-in datasets"),
        (["--dataset", ".", "--image-px", "257"], "--image-px is 257: use 8 to 256"),
    ],
)
def test_options_that_do_not_belong_together_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], says: str
) -> None:
    with pytest.raises(SystemExit):
        main(["prepare", *arguments, "--target", "nowhere"])
    assert says in capsys.readouterr().err


def test_train_takes_a_folder_or_a_pack_and_packs_a_changed_folder_anew(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"train/a": 10, "train/b": 10, "val/a": 3, "test/b": 3})
    small = ["widths=[8,8,8,8,8]", "fc_widths=[16,16]", "batch_size=8", "epochs=1", "image_px=12", "precision=fp32"]
    overrides = [word for pair in small for word in ("--override", pair)]
    places = ["--data-dir", str(tmp_path / "data"), "--out"]
    assert main(["train", "--dataset", str(folder), *places, str(tmp_path / "one"), *overrides]) == 0
    [pack] = (tmp_path / "data").iterdir()
    assert pack.name.startswith("mine-")
    assert main(["train", "--dataset", str(pack), *places, str(tmp_path / "two"), *overrides]) == 0
    [checkpoint] = (tmp_path / "one").glob("epoch-*")
    assert (checkpoint / "weights.safetensors").read_bytes() == (
        next((tmp_path / "two").glob("epoch-*")) / "weights.safetensors"
    ).read_bytes()
    same = open_dataset(str(folder), data_dir=tmp_path / "data")
    assert same.path == pack
    write_image(folder / "train" / "a" / "new.png", 77)
    assert open_dataset(str(folder), data_dir=tmp_path / "data").path != pack
    assert open_pack(pack).split.tolist().count(VALIDATION) == 3


def test_train_takes_an_archive_and_packs_a_changed_one_anew(tmp_path: Path) -> None:
    archive = tmp_path / "mine.tar.gz"
    archive.write_bytes(compress(tar_of(two_classes(4)), "gz"))
    pack = open_dataset(str(archive), data_dir=tmp_path / "data")
    assert (pack.name, pack.path.name.startswith("mine-")) == ("mine", True)
    assert open_dataset(str(archive), data_dir=tmp_path / "data").path == pack.path
    archive.write_bytes(compress(tar_of(two_classes(5)), "gz"))
    assert open_dataset(str(archive), data_dir=tmp_path / "data").digest != pack.digest


def test_a_folder_in_which_one_file_was_replaced_is_packed_anew(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 3, "b": 3})
    before = open_dataset(str(folder), data_dir=tmp_path / "data")
    pixels = write_image(folder / "a" / "000.png", 77)
    after = open_dataset(str(folder), data_dir=tmp_path / "data")
    assert after.path != before.path
    assert np.array_equal(after.images[0], pixels)


@pytest.mark.parametrize(
    ("option", "where"), [("--data-dir", "mine"), ("--data-dir", "mine/sub"), ("--out", "mine/out")]
)
def test_nothing_is_written_among_the_images(
    option: str, where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 3, "b": 3})
    places = {"--data-dir": tmp_path / "data", "--out": tmp_path / "out", option: tmp_path / where}
    words = [str(word) for pair in places.items() for word in pair]
    assert main(["train", "--dataset", str(folder), *words]) == 1
    assert f"give {option} a folder outside it" in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]
    status, answer = prepare(capsys, "--dataset", folder, "--target", folder / "pack")
    assert (status, answer["error"]["code"]) == (1, "config_invalid")


@pytest.mark.parametrize("kind", ["digits", "folder"])
def test_a_damaged_pack_is_made_again_by_whoever_opens_it(kind: str, tmp_path: Path) -> None:
    reference = kind if kind == "digits" else str(write_classes(tmp_path / "mine", {"a": 9, "b": 9}))
    pack = open_dataset(reference, data_dir=tmp_path / "data")
    content = bytearray((pack.path / "images.npy").read_bytes())
    content[-1] ^= 1
    (pack.path / "images.npy").write_bytes(bytes(content))
    again = open_dataset(reference, data_dir=tmp_path / "data")
    assert (again.path, again.digest) == (pack.path, pack.digest)
    again.verify()


def test_a_damaged_pack_that_is_named_itself_is_left_as_it_is(tmp_path: Path) -> None:
    pack = pack_images(write_classes(tmp_path / "mine", {"a": 9, "b": 9}), tmp_path / "pack", OPTIONS)
    with (pack.path / "labels.npy").open("r+b") as file:
        file.truncate(100)
    for _ in range(2):
        with pytest.raises(DatasetDamaged, match="Prepare the dataset again"):
            open_dataset(str(pack.path), data_dir=tmp_path / "data")


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable, match="no folder"):
        pack_images(tmp_path / "nothing", tmp_path / "pack", OPTIONS)
