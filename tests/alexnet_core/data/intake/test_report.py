"""What a report says of a dataset, in numbers and in words."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

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


def test_names_that_may_mean_one_class_are_told(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"tulip": 25, "tulips": 25})
    report = report_of(pack_images(folder, tmp_path / "pack", OPTIONS))
    [finding] = [it for it in report["findings"] if it["code"] == FindingCode.CLASS_NAMES_SIMILAR]
    assert finding["message"] == "the names of the classes 'tulip', 'tulips' are similar"
