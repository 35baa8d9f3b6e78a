"""Odd and hostile datasets, each with the answer that its owner gets; hostile archives are in `archives`."""

from __future__ import annotations

import io
import struct
import time
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.errors import DatasetInvalid
from tests.alexnet_core.archive_files import Entry, compress, png, raw_zip, tar_of, two_classes, zip_of
from tests.alexnet_core.data.intake.test_packing import report_of
from tests.hostile_images import REFUSED, chunk, encode, made

OPTIONS = IntakeOptions(name="mine", threads=2)
NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
FULL_WIDTH = "".join(chr(ord(letter) + 0xFEE0) for letter in "cat")
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(%pipe%id) (w) file\n%%EOF\n"

Members = dict[str, bytes]


def images(**counts: int) -> Members:
    """Different images; `a__b` stands for `a/b`."""
    members: Members = {}
    for number, (name, count) in enumerate(counts.items()):
        for index in range(count):
            members[f"{name.replace('__', '/')}/{index:04d}.png"] = png(10_000 * number + index)
    return members


def classes(*names: str) -> Members:
    return {
        f"{name}/{index}.png": png(100 * number + index) for number, name in enumerate(names) for index in range(12)
    }


def huge_png() -> bytes:
    header = struct.pack(">IIBBBBB", 9400, 9400, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(9401 * 9400), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


REFUSED_DATASETS: dict[str, tuple[Callable[[], Members], str]] = {
    "nothing": (dict, "no_images"),
    "only junk": (lambda: {"__MACOSX/a/._1.png": b"x", ".DS_Store": b"x", "Thumbs.db": b"x"}, "no_images"),
    "images in no folder": (lambda: {f"{i}.png": png(i) for i in range(5)}, "no_images"),
    "one class": (lambda: images(cat=20), "too_few_classes"),
    "one class in splits": (lambda: images(train__cat=20, val__cat=5), "too_few_classes"),
    "an image a class": (lambda: images(a=1, b=1, c=1), "too_few_images"),
    "one image in all places": (
        lambda: {f"{name}/{i}.png": png() for name in "ab" for i in range(20)},
        "too_few_images",
    ),
    "a class that is only tested": (
        lambda: images(train__a=20, train__b=20, test__c=5),
        "class_without_training_images",
    ),
    "no training split": (lambda: images(val__a=20, test__b=20), "layout_unclear"),
    "splits beside classes": (lambda: images(train__a=20, train__b=20, other__a=5), "layout_unclear"),
    "names in two cases": (lambda: classes("Cat", "cat"), "class_names_alike"),
    "names composed and decomposed": (lambda: classes(NFC, NFD), "class_names_alike"),
    "names with something unseen": (lambda: classes("cat", "cat\u200b"), "class_names_alike"),
    "names in full and half width": (lambda: classes("cat", FULL_WIDTH), "class_names_alike"),
    "a name of 101 characters": (lambda: classes("x" * 101, "b"), "class_name_invalid"),
    "a name of nothing that is seen": (lambda: classes("\u202e\u200b", "b"), "class_name_invalid"),
    "a name that is a blank": (lambda: classes(" ", "b"), "class_name_invalid"),
    "texts": (lambda: {f"{name}/{i}.png": b"hello" for name in "ab" for i in range(20)}, "too_many_rejected"),
    "empty files": (lambda: {f"{name}/{i}.png": b"" for name in "ab" for i in range(20)}, "too_many_rejected"),
    "images cut in half": (
        lambda: {name: data[: len(data) // 2] for name, data in two_classes().items()},
        "too_many_rejected",
    ),
    "a manifest of other files": (
        lambda: {"labels.csv": b"file,label\nx.jpg,a\n", **two_classes()},
        "manifest_names_nothing",
    ),
}  # fmt: skip


def write(folder: Path, members: Members, how: str) -> Path:
    path = folder / f"dataset.{how or 'tar'}"
    path.write_bytes(zip_of(members) if how == "zip" else compress(tar_of(members), how))
    return path


@pytest.mark.parametrize("how", ["zip", "gz"])
@pytest.mark.parametrize("name", REFUSED_DATASETS)
def test_a_dataset_that_can_not_be_trained_on_is_refused_in_words(tmp_path: Path, name: str, how: str) -> None:
    make, problem = REFUSED_DATASETS[name]
    path = write(tmp_path, make(), how)
    began = time.process_time()
    with pytest.raises(DatasetInvalid) as exc:
        pack_images(path, tmp_path / "packs" / "pack", OPTIONS)
    assert time.process_time() - began < 2
    assert exc.value.problem == problem
    assert str(exc.value).isprintable()
    assert list((tmp_path / "packs").iterdir()) == []


def taken(tmp_path: Path, members: Members, how: str = "zip", **options: Any) -> dict[str, Any]:
    pack = pack_images(
        write(tmp_path, members, how), tmp_path / "pack", IntakeOptions(name="mine", threads=2, **options)
    )
    pack.verify()
    return report_of(pack)


def psd() -> bytes:
    return b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, 10, 10, 8, 3) + bytes(12 + 2 + 300)


OTHER_FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "eps": (lambda: EPS, "image_format_unsupported"),
    "psd": (psd, "image_format_unsupported"),
    "pdf": (lambda: encode(Image.new("RGB", (8, 8)), "PDF"), "image_format_unsupported"),
    "icns": (lambda: encode(Image.new("RGBA", (16, 16)), "ICNS"), "image_format_unsupported"),
    "jpeg 2000": (lambda: encode(Image.new("RGB", (8, 8)), "JPEG2000"), "image_format_unsupported"),
    "tga": (lambda: encode(Image.new("RGB", (8, 8)), "TGA"), "image_format_unsupported"),
    "svg": (lambda: b"<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>", "image_format_unsupported"),
    "html": (lambda: b"<html><script>alert(1)</script></html>", "image_format_unsupported"),
    "zip": (lambda: zip_of({"x": b"y"}), "image_format_unsupported"),
    "an image bomb": (huge_png, "image_too_large"),
    "a cut image": (lambda: png(0)[:-40], "image_unreadable"),
    "nothing": (lambda: b"", "image_format_unsupported"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_a_file_of_another_kind_named_as_an_image_is_rejected_and_the_others_are_taken(
    tmp_path: Path, kind: str
) -> None:
    make, code = OTHER_FILES[kind]
    report = taken(tmp_path, two_classes(20) | {"a/odd.jpg": make()})
    assert [(item["file"], item["code"]) for item in report["rejected"]] == [("a/odd.jpg", code)]
    assert report["num_images"] == 40


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__)
def test_an_image_that_costs_too_much_is_rejected_and_the_others_are_taken(tmp_path: Path, make: Any) -> None:
    folder = tmp_path / "mine"
    for name, content in (two_classes(20) | {"a/odd.jpg": made(make)}).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    began = time.process_time()
    report = report_of(pack_images(folder, tmp_path / "pack", OPTIONS))
    assert time.process_time() - began < 3
    assert [item["file"] for item in report["rejected"]] == ["a/odd.jpg"]


def test_a_polyglot_leaves_nothing_but_its_pixels(tmp_path: Path) -> None:
    """An image with an archive behind it, and one with a script in a comment."""
    inner = zip_of({"evil.txt": b"evil " * 100})
    script = b"<script>alert(1)</script>"
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(Image.open(io.BytesIO(png(5))))).save(buffer, "JPEG", comment=script)
    members = two_classes(20) | {"a/gifar.png": png(4) + inner, "a/script.jpg": buffer.getvalue()}
    report = taken(tmp_path, members)
    assert (report["num_images"], report["rejected"]) == (42, [])
    kept = b"".join(path.read_bytes() for path in (tmp_path / "pack").iterdir())
    assert inner not in kept
    assert script not in kept


def test_odd_names_of_files_do_no_harm(tmp_path: Path) -> None:
    names = ["a/\u202egnp.1", "a/🐈.png", "a/new\nline.png", "a/'; drop table.png", "a/%2e%2e%2f.png", "a/$(id).png",
             "a/" + "x" * 250 + ".png", "b/-rf.png", "b/~root.png", "b/ .png", "b/caf\udce9.png"]  # fmt: skip
    members = two_classes(10) | {name: png(500 + number) for number, name in enumerate(names)}
    report = taken(tmp_path, members, "gz")
    assert report["num_images"] == 31
    entries = [Entry(name.encode("utf-8", "surrogateescape"), content) for name, content in members.items()]
    (tmp_path / "raw.zip").write_bytes(raw_zip(entries))
    assert len(pack_images(tmp_path / "raw.zip", tmp_path / "raw", OPTIONS).labels) == 31


def test_imbalance_of_a_thousand_to_one_is_told(tmp_path: Path) -> None:
    report = taken(tmp_path, images(large=1500, small=3))
    assert {"imbalance", "nearly_empty_classes"} <= {finding["code"] for finding in report["findings"]}
    assert report["classes"][1] == {"name": "small", "train": 1, "validation": 1, "test": 1}


def test_an_empty_class_is_named_and_left_out(tmp_path: Path) -> None:
    report = taken(tmp_path, two_classes(20) | {"empty/": b""})
    assert report["empty_classes"] == ["empty"]
    assert [entry["name"] for entry in report["classes"]] == ["a", "b"]
