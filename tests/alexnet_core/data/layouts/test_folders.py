"""What a tree of paths means: splits, classes, junk, names."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alexnet_core.data.layouts.class_names import clean_name, find_similar
from alexnet_core.data.layouts.folders import read_layout
from alexnet_core.data.layouts.labelled_files import LabelledFiles
from alexnet_core.data.pack import TEST, TRAIN, VALIDATION
from alexnet_core.errors import DatasetInvalid

NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def understood(layout: LabelledFiles) -> dict[str, tuple[str, int | None]]:
    return {file.path: (layout.class_names[file.label], file.split) for file in layout.files}


def test_class_folders_give_classes_in_order_at_any_depth() -> None:
    layout = read_layout(["dog/1.jpg", "cat/2.jpg", "cat/", "cat/white/3.jpg", "empty/"])
    assert layout.class_names == ("cat", "dog")
    assert understood(layout) == {
        "cat/2.jpg": ("cat", None),
        "cat/white/3.jpg": ("cat", None),
        "dog/1.jpg": ("dog", None),
    }
    assert layout.empty == ("empty",)


@pytest.mark.parametrize("val", ["val", "validation", "Validation", "valid", "VALID", "dev"])
@pytest.mark.parametrize("wrapper", ["", "photos-1.0/"])
def test_splits_above_the_classes_are_understood_with_a_folder_around_them(val: str, wrapper: str) -> None:
    paths = ["train/a/1.png", "train/b/2.png", f"{val}/a/3.png", "test/b/4.png", "train/readme.txt"]
    layout = read_layout([wrapper + path for path in paths])
    assert understood(layout) == {
        f"{wrapper}train/a/1.png": ("a", TRAIN),
        f"{wrapper}train/b/2.png": ("b", TRAIN),
        f"{wrapper}{val}/a/3.png": ("a", VALIDATION),
        f"{wrapper}test/b/4.png": ("b", TEST),
    }
    assert layout.outside == (f"{wrapper}train/readme.txt",)


def test_one_folder_around_everything_is_looked_through_but_not_two() -> None:
    layout = read_layout(["photos/cat/1.png", "photos/dog/2.png", "photos/none/", "licence.txt"])
    assert layout.class_names == ("cat", "dog")
    assert (layout.outside, layout.empty) == (("licence.txt",), ("none",))
    assert read_layout(["a/photos/cat/1.png", "a/photos/dog/2.png"]).class_names == ("photos",)


@pytest.mark.parametrize(("train", "test"), [("training", "testing"), ("TRAIN", "Test"), ("Training", "test")])
@pytest.mark.parametrize("wrapper", ["flowers/flowers/", "a/data/", "a/Images/", "a/b/", "a/b/data/"])
def test_a_folder_within_the_one_around_is_looked_through_where_it_can_be_no_class(
    wrapper: str, train: str, test: str
) -> None:
    layout = read_layout([f"{wrapper}{train}/a/1.png", f"{wrapper}{train}/b/2.png", f"{wrapper}{test}/b/3.png"])
    assert understood(layout) == {
        f"{wrapper}{train}/a/1.png": ("a", TRAIN),
        f"{wrapper}{train}/b/2.png": ("b", TRAIN),
        f"{wrapper}{test}/b/3.png": ("b", TEST),
    }
    assert layout.notes[0] == f"the folder {wrapper.rstrip('/')!r} is around everything and was looked through"
    without_splits = read_layout(["flowers/flowers/a/1.png", "flowers/flowers/b/2.png", "flowers/flowers/c/"])
    assert (without_splits.class_names, without_splits.empty) == (("a", "b"), ("c",))


def test_names_that_may_mean_one_class_are_found() -> None:
    names = ["golden retriever", "Golden_Retriever", "tulip", "tulips", "rose", "class 1", "class 12", "n01440764",
             "n01440765", "a", "ab", "日本", "日本語"]  # fmt: skip
    assert find_similar(names) == [("Golden_Retriever", "golden retriever"), ("tulip", "tulips")]
    assert find_similar([f"class {number}" for number in range(10_000)]) == []


def test_a_class_may_be_called_train() -> None:
    assert read_layout(["train/1.png", "plane/2.png"]).class_names == ("plane", "train")


def test_junk_is_passed_over_and_counted() -> None:
    junk = ["__MACOSX/a/._1.png", "a/.DS_Store", "a/Thumbs.db", ".git/config", "b/desktop.ini", "a/._1.png"]
    layout = read_layout([*junk, "__MACOSX/", "a/1.png", "b/2.png"])
    assert [file.path for file in layout.files] == ["a/1.png", "b/2.png"]
    assert layout.num_junk == len(junk)
    assert layout.outside == layout.empty == ()


@pytest.mark.parametrize(
    ("paths", "says"),
    [
        (["train/a/1.png", "extra/b/2.png"], "Beside train there is 'extra'"),
        (["test/a/1.png", "val/b/2.png"], "There is test and val, but no train"),
    ],
)
def test_an_unclear_tree_is_refused(paths: list[str], says: str) -> None:
    with pytest.raises(DatasetInvalid, match=says) as exc:
        read_layout(paths)
    assert exc.value.problem == "layout_unclear"


@pytest.mark.parametrize(
    ("one", "other"),
    [("Cat", "cat"), (NFC, NFD), ("cat", "cat\u200b"), ("cat", " cat"), ("straße", "STRASSE"), ("ﬁsh", "fish")],
)
def test_names_that_look_alike_are_refused(one: str, other: str) -> None:
    with pytest.raises(DatasetInvalid, match="look alike") as exc:
        read_layout([f"{one}/1.png", f"{other}/2.png"])
    assert exc.value.problem == "class_names_alike"
    assert str(exc.value).isprintable()


def test_the_same_class_in_two_splits_is_one_class_however_it_is_composed() -> None:
    layout = read_layout([f"train/{NFC}/1.png", f"test/{NFD}/2.png", "train/tea/3.png"])
    assert layout.class_names == (NFC, "tea")
    with pytest.raises(DatasetInvalid, match="look alike"):
        read_layout(["train/cat/1.png", "train/dog/1.png", "test/Cat/2.png"])


@pytest.mark.parametrize(
    ("name", "cleaned"),
    [
        (NFD, NFC),
        ("a\u202eb", "ab"),
        ("a\x07\x1b[31mb", "a[31mb"),
        (" a \t b\u2028", "a b"),
        ("x" * 100, "x" * 100),
        ("caf\udce9", "caf"),  # a file name that is no UTF-8
        ("🐈", "🐈"),
    ],
)
def test_a_name_is_cleaned(name: str, cleaned: str) -> None:
    assert clean_name(name) == cleaned


@pytest.mark.parametrize("name", ["\u200b", " ", "\udce9", "x" * 101])
def test_a_name_with_nothing_to_show_or_too_long_is_refused(name: str) -> None:
    with pytest.raises(DatasetInvalid) as exc:
        clean_name(name)
    assert exc.value.problem == "class_name_invalid"
    assert str(exc.value).isprintable()


part = st.one_of(
    st.sampled_from(["train", "val", "test", "a", "b", "A", "__MACOSX", ".x", "..", "."]), st.text(max_size=3)
)


@given(paths=st.lists(st.lists(part, min_size=1, max_size=4).map("/".join), max_size=8))
@settings(max_examples=200, deadline=None)
def test_any_tree_is_understood_or_refused_and_no_file_is_lost(paths: list[str]) -> None:
    try:
        layout = read_layout(paths)
    except DatasetInvalid:
        return
    files = [path for path in paths if not path.endswith("/") and path.strip("./")]
    assert len(layout.files) + len(layout.outside) + layout.num_junk >= len(files)
    assert len({name.casefold() for name in layout.class_names}) == len(layout.class_names)
    assert all(0 < len(name) <= 100 for name in layout.class_names)
