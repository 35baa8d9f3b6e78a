"""Tables of file names and labels beside the images."""

from __future__ import annotations

import json
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.layouts.labelled_files import LabelledFiles
from alexnet_core.data.layouts.manifest_tables import Row, read_table
from alexnet_core.data.layouts.manifests import read_manifests
from alexnet_core.data.pack import TEST, TRAIN, VALIDATION
from alexnet_core.data.sources import FolderSource
from alexnet_core.errors import DatasetInvalid
from tests.alexnet_core.data.intake.test_packing import OPTIONS, report_of, write_image


def read(folder: Path, *images: str, **tables: str) -> LabelledFiles:
    """The manifests of a folder; `a__b` stands for `a.b`."""
    for path in images:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    for name, text in tables.items():
        (folder / name.replace("__", ".").replace("_in_", "/")).write_bytes(text.encode())
    layout = read_manifests(FolderSource(folder))
    assert layout is not None
    return layout


def rows_of(name: str, content: bytes) -> list[Row]:
    table = read_table(name, content)
    return [] if table is None else list(table.rows)


def understood(layout: LabelledFiles) -> dict[str, tuple[str, int | None]]:
    return {file.path: (layout.class_names[file.label], file.split) for file in layout.files}


@pytest.mark.parametrize(
    "text",
    [
        "path,label,split\nimg/1.png,cat,train\nimg/2.png,dog,Valid\nimg/3.png,cat,testing\n",
        "Split;File Name;CLASS\r\ntrain;img/1.png;cat\r\nval;img/2.png;dog\r\nTEST;./img/3.png;cat\r\n",
        "\ufeffimage\tid\tcategory\tsubset\n1.png\t7\tcat\ttrain\nimg\\2.png\t8\tdog\tdev\n/img/3.png\t9\tcat\ttest\n",
        'FILE_NAME,label,set\n"img/1.png","cat",train\n"img/2.png"," dog ",validation\n\nimg/3.png,cat,test',
    ],
)
def test_columns_are_known_by_their_names_in_any_spelling(tmp_path: Path, text: str) -> None:
    layout = read(tmp_path, "img/1.png", "img/2.png", "img/3.png", labels__csv=text)
    assert understood(layout) == {
        "img/1.png": ("cat", TRAIN),
        "img/2.png": ("dog", VALIDATION),
        "img/3.png": ("cat", TEST),
    }
    assert (layout.kind, layout.outside, layout.rejected) == ("manifest", (), ())
    assert layout.notes[0].startswith("classes are from 'labels.csv', columns ")


def test_json_lines_are_read_and_numbers_are_classes_in_their_order(tmp_path: Path) -> None:
    rows = [{"file": f"{label}.png", "label": label, "box": [1, 2]} for label in (10, 2, 1)]
    layout = read(tmp_path, "1.png", "2.png", "10.png", labels__jsonl="\n".join(map(json.dumps, rows)) + "\n\n")
    assert layout.class_names == ("1", "2", "10")
    assert understood(layout) == {f"{label}.png": (str(label), None) for label in (1, 2, 10)}


def test_an_imagefolder_of_hugging_face_has_its_metadata_in_each_split(tmp_path: Path) -> None:
    layout = read(
        tmp_path,
        "train/1.png",
        "train/sub/2.png",
        "test/1.png",
        train_in_metadata__csv="file_name,label\n1.png,cat\nsub/2.png,dog\n",
        test_in_metadata__jsonl='{"file_name": "1.png", "label": "dog"}\n',
    )
    assert understood(layout) == {
        "train/1.png": ("cat", TRAIN),
        "train/sub/2.png": ("dog", TRAIN),
        "test/1.png": ("dog", TEST),
    }


def test_a_split_may_be_in_the_manifests_own_name(tmp_path: Path) -> None:
    layout = read(
        tmp_path,
        "pictures/1.png",
        "pictures/2.png",
        train__csv="image,label\n1.png,cat\n",
        labels_test__csv="image,label\n2.png,dog\n",
    )
    assert understood(layout) == {"pictures/1.png": ("cat", TRAIN), "pictures/2.png": ("dog", TEST)}


def test_what_is_missing_unnamed_or_without_a_label_is_told(tmp_path: Path) -> None:
    rows = ["1.png,cat", "2.png,dog", "gone.png,cat", "3.png,", ",cat", "4.png,cat", "4.png,dog", "1.png,cat"]
    text = "\n".join(["file,label", *rows, "../../etc/passwd,x"])
    layout = read(tmp_path, *(f"{i}.png" for i in range(1, 6)), "readme.txt", "._5.png", labels__csv=text)
    assert understood(layout) == {"1.png": ("cat", None), "2.png": ("dog", None)}
    assert {(it.file, it.code) for it in layout.rejected} == {
        ("gone.png", "file_missing"),
        ("3.png", "label_missing"),
        ("labels.csv line 6", "file_missing"),
        ("4.png", "label_contradicts"),
        ("../../etc/passwd", "file_missing"),
    }
    assert layout.rejected[0].reason == "It is named in labels.csv line 4, but it is not there."
    assert (layout.outside, layout.num_junk) == (("5.png",), 1)


def test_a_manifest_counts_and_folders_do_not(tmp_path: Path) -> None:
    for number in range(40):
        write_image(tmp_path / "mine" / ("x" if number % 3 else "y") / f"{number}.png", number)
    rows = [f"{number}.png,{'even' if number % 2 == 0 else 'odd'}" for number in range(40)]
    (tmp_path / "mine" / "labels.csv").write_text("\n".join(["file,label", *rows, "gone.png,even"]))
    write_image(tmp_path / "mine" / "x" / "unnamed.png", 99)
    pack = pack_images(tmp_path / "mine", tmp_path / "pack", OPTIONS)
    assert (pack.class_names, len(pack.labels)) == (("even", "odd"), 40)
    report = report_of(pack)
    assert report["layout"]["kind"] == "manifest"
    assert (report["num_files"], [item["file"] for item in report["rejected"]]) == (41, ["gone.png"])
    assert "1 files are named by no manifest and are left out: 'x/unnamed.png'" in report["warnings"]
    (tmp_path / "mine" / "labels.csv").write_text("\n".join(["file,label", *rows, *["gone.png,odd"] * 3]))
    with pytest.raises(DatasetInvalid, match="3 of 43 files are no usable images") as exc:
        pack_images(tmp_path / "mine", tmp_path / "other", OPTIONS)
    assert exc.value.problem == "too_many_rejected"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("file,label\nx.png,cat\ny.png,dog\n", "manifest_names_nothing"),
        ("file,label,split\n1.png,cat,fold 3\n", "split_unknown"),
        ("file,label\n1.png,Cat\n2.png,cat\n", "class_names_alike"),
        ("file,label\n1.png,caf\udce9\n", "manifest_unreadable"),
        ("file,label\n1.png,\"" + "x" * 200_000 + "\"\n", "manifest_unreadable"),
        ("file,label\n1.png," + "x" * 200 + "\n", "class_name_invalid"),
    ],
)  # fmt: skip
def test_a_manifest_that_can_not_be_used_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    for name in ("1.png", "2.png"):
        (tmp_path / name).touch()
    (tmp_path / "labels.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DatasetInvalid) as exc:
        read_manifests(FolderSource(tmp_path))
    assert exc.value.problem == problem
    assert str(exc.value).isprintable()


@pytest.mark.parametrize("text", ["", "\n", "name,colour\n1.png,red\n", "file,caption\n1.png,a cat\n", "\0\xff", "[1]"])
@pytest.mark.parametrize("name", ["notes.csv", "notes.jsonl"])
def test_another_table_is_no_manifest(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "1.png").touch()
    (tmp_path / name).write_text(text)
    assert read_manifests(FolderSource(tmp_path)) is None


def test_a_large_table_that_is_no_manifest_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "features.csv").open("wb") as file:
        file.write(b"name,colour\n")
        file.truncate(300 << 20)
    assert read_manifests(FolderSource(tmp_path)) is None
    with (tmp_path / "labels.csv").open("wb") as file:
        file.write(b"file,label\n")
        file.truncate(300 << 20)
    with pytest.raises(DatasetInvalid, match=r"labels\.csv") as exc:
        read_manifests(FolderSource(tmp_path))
    assert exc.value.problem == "manifest_unreadable"


def test_a_line_that_is_no_object_and_a_deep_one_are_refused(tmp_path: Path) -> None:
    first = '{"file": "1.png", "label": "a"}\n'
    for line in ("[1]", "{", "[" * 100_000, '{"file": "1.png", "label": NaN'):
        with pytest.raises(DatasetInvalid) as exc:
            rows_of("x.jsonl", (first + line).encode())
        assert exc.value.problem == "manifest_unreadable"


@given(st.binary(max_size=60), st.sampled_from(["x.csv", "x.jsonl"]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_table_is_read_or_refused(data: bytes, name: str) -> None:
    prefix = b"file,label,split\n" if name.endswith("csv") else b'{"file": "1.png", "label": 1}\n'
    for content in (data, prefix + data):
        try:
            rows_of(name, content)
        except DatasetInvalid as exc:
            assert exc.problem == "manifest_unreadable"  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("x.csv", b"file,label\n" + b"," * (60 << 20)),
        ("x.csv", b"file,label\n" + b'"a\n",' * (10 << 20)),
        ("x.csv", b"file,label\n" + b'"' + b"\n" * (60 << 20)),
        ("x.jsonl", b'{"file": "1.png", "label": 1}\n{"file": [' + b"1," * (30 << 20)),
    ],
    ids=["commas", "cells of lines", "one cell of lines", "a list"],
)
def test_a_row_of_many_megabytes_takes_little_memory_and_time(name: str, content: bytes) -> None:
    began = time.process_time()
    tracemalloc.start()
    with pytest.raises(DatasetInvalid) as exc:
        rows_of(name, content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert exc.value.problem == "manifest_unreadable"
    assert peak < len(content) + 50_000_000
    assert time.process_time() - began < 2


def test_a_manifest_of_very_many_rows_ends_soon(tmp_path: Path) -> None:
    (tmp_path / "1.png").touch()
    for row in ("1.png,a\n", "x,a\n"):
        (tmp_path / "labels.csv").write_text("file,label\n" + row * 5_000_000)
        began = time.process_time()
        with pytest.raises(DatasetInvalid, match="many more rows than there are files") as exc:
            read_manifests(FolderSource(tmp_path))
        assert exc.value.problem == "manifest_too_long"
        assert time.process_time() - began < 2
