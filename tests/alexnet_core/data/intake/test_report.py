"""What a report says of a dataset, in numbers and in words."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from alexnet_core.__main__ import main
from alexnet_core.data.intake import report as intake_report
from alexnet_core.data.intake.findings import FindingCode
from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from tests.alexnet_core.data.intake.test_packing import OPTIONS, report_of, write_classes, write_image


def test_sizes_colour_modes_and_formats_are_counted(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"a": 10, "b": 10})
    write_image(folder / "a" / "wide.png", 1, (20, 50, 3))
    write_image(folder / "a" / "grey.png", 2, (30, 30))
    Image.new("CMYK", (14, 12), 40).save(folder / "b" / "print.jpg")
    Image.new("P", (14, 12), 1).save(folder / "b" / "palette.gif")
    report = report_of(pack_images(folder, tmp_path / "pack", OPTIONS))
    assert report["sizes"] == {
        "width": {"min": 12, "median": 12, "max": 50},
        "height": {"min": 12, "median": 12, "max": 30},
    }
    assert report["colour_modes"] == {"RGB": 21, "L": 1, "CMYK": 1, "P": 1}
    assert report["formats"] == {"PNG": 22, "JPEG": 1, "GIF": 1}


def test_every_finding_says_what_to_do(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"train/a": 203, "train/as": 2, "val/a": 2, "test/as": 0})
    for copy in ("train/a/copy.bmp", "train/as/copy.bmp", "val/a/copy.bmp"):
        Image.open(folder / "train/a/000.png").save(folder / copy)
    (folder / "train/none").mkdir()
    (folder / "train/none/.keep").touch()
    (folder / "train/readme.txt").touch()
    (folder / "train/a/notes.txt").touch()
    write_image(folder / "train/a/large.png", 5, (40, 40, 3))
    report = report_of(pack_images(folder, tmp_path / "pack", IntakeOptions(name="x", image_px=32)))
    found = {finding["code"]: finding for finding in report["findings"]}
    assert set(found) == {
        FindingCode.EMPTY_CLASSES,
        FindingCode.OUTSIDE_CLASSES,
        FindingCode.REJECTED_FILES,
        FindingCode.ENLARGED_IMAGES,
        FindingCode.NEARLY_EMPTY_CLASSES,
        FindingCode.COPIES,
        FindingCode.DUPLICATES_ACROSS_SPLITS,
        FindingCode.DUPLICATES_ACROSS_CLASSES,
    }
    assert report["warnings"] == [finding["message"] for finding in report["findings"]]
    assert all(finding["advice"].endswith(".") for finding in report["findings"])


def test_names_of_files_that_are_no_utf8_are_shown_with_their_bytes(tmp_path: Path) -> None:
    """A database takes no half characters."""
    folder = write_classes(tmp_path / "mine", {"a": 25, "b": 25})
    (folder / "a" / "caf\udce9.png").touch()
    report = report_of(pack_images(folder, tmp_path / "pack", OPTIONS))
    assert [item["file"] for item in report["rejected"]] == ["a/caf\\udce9.png"]
    assert json.dumps(report, ensure_ascii=False).encode()


def test_a_report_lists_the_first_of_very_many_files_and_counts_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API process reads a report in one piece, and an archive may have a million files."""
    monkeypatch.setattr(intake_report, "MAX_REJECTED_LISTED", 2)
    monkeypatch.setattr(intake_report, "_MAX_LISTED", 2)
    folder = write_classes(tmp_path / "mine", {"a": 45, "b": 45})
    for number in range(4):
        (folder / "a" / f"bad-{number}.png").write_bytes(b"nothing")
        (folder / f"outside-{number}.png").touch()
        (folder / f"empty-{number}").mkdir()
    report = report_of(pack_images(folder, tmp_path / "pack", OPTIONS))
    assert [item["file"] for item in report["rejected"]] == ["a/bad-0.png", "a/bad-1.png"]
    assert report["num_rejected"] == 4
    assert (report["outside_classes"], report["empty_classes"]) == (
        ["outside-0.png", "outside-1.png"],
        ["empty-0", "empty-1"],
    )
    told = " ".join(report["warnings"])
    assert "4 files are no usable images" in told
    assert "4 files are in no class folder" in told


def test_names_that_may_mean_one_class_are_told(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"tulip": 25, "tulips": 25})
    report = report_of(pack_images(folder, tmp_path / "pack", OPTIONS))
    [finding] = [it for it in report["findings"] if it["code"] == FindingCode.CLASS_NAMES_SIMILAR]
    assert finding["message"] == "the names of the classes 'tulip', 'tulips' are similar"


def test_a_report_says_what_differs_from_the_version_before(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"cat": 30, "dog": 30})
    before = pack_images(folder, tmp_path / "before", replace(OPTIONS, name="first"))
    assert report_of(before)["diff"] is None
    (folder / "cat" / "007.png").rename(folder / "dog" / "not-a-cat.png")
    write_image(folder / "dog" / "new.png", 4711)
    after = pack_images(folder, tmp_path / "after", replace(OPTIONS, parent_pack=before.path))
    diff = report_of(after)["diff"]
    assert (diff["parent"], diff["is_comparable"]) == ("first", True)
    assert (diff["num_added"], diff["num_removed"], diff["num_relabelled"]) == (1, 0, 1)
    assert [place["file"] for place in diff["added"]] == ["dog/new.png"]
    change = diff["relabelled"][0]
    assert (change["before"]["label"], change["before"]["file"]) == ("cat", "cat/007.png")
    assert (change["after"]["label"], change["after"]["file"]) == ("dog", "dog/not-a-cat.png")
    alone = pack_images(folder, tmp_path / "alone", OPTIONS)
    assert after.digest == alone.digest, "the diff is no part of the dataset"


def test_prepare_compares_with_the_pack_that_it_is_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_classes(tmp_path / "mine", {"cat": 10, "dog": 10})
    command = ["prepare", "--dataset", str(folder), "--target"]
    assert main([*command, str(tmp_path / "first")]) == 0
    (folder / "cat" / "003.png").unlink()
    capsys.readouterr()
    assert main([*command, str(tmp_path / "second"), "--parent-pack", str(tmp_path / "first")]) == 0
    diff = json.loads(capsys.readouterr().out)["report"]["diff"]
    assert (diff["num_unchanged"] + diff["num_moved"], diff["num_removed"], diff["num_added"]) == (19, 1, 0)
    assert [place["file"] for place in diff["removed"]] == ["cat/003.png"]
    assert main([*command, str(tmp_path / "third"), "--parent-pack", str(tmp_path / "nowhere")]) == 1
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["code"] == "dataset_unavailable"
    assert not (tmp_path / "third").exists()
