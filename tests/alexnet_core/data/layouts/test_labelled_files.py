from __future__ import annotations

import tracemalloc

import pytest

from alexnet_core.data.layouts.labelled_files import FileTable, LabelledFile
from alexnet_core.data.pack import TEST, TRAIN, VALIDATION

PLACES = [
    (TEST, 0, "test/a/1"),
    (TRAIN, 1, "b/2"),
    (None, 1, "b/1"),
    (TRAIN, 0, "a/2"),
    (TRAIN, 1, "b/0"),
    (VALIDATION, 1, "val/b"),
    (TRAIN, 0, "a/1"),
]


def test_files_stand_by_split_class_and_path_and_no_split_is_like_train() -> None:
    files = [LabelledFile(path, label, split) for split, label, path in PLACES]
    files.sort(key=lambda file: (file.split or 0, file.label, file.path))
    table = FileTable.ordered(PLACES)
    assert table == files
    assert (len(table), table[0], table[-1]) == (7, files[0], files[-1])
    assert table[2:4] == files[2:4]
    assert [file.split for file in table].count(None) == 1
    assert table != files[:-1]
    assert table != [*files[:-1], files[0]]


def test_a_place_that_is_not_there_is_an_index_error() -> None:
    with pytest.raises(IndexError):
        FileTable()[0]


def test_a_file_takes_few_bytes_beside_its_path() -> None:
    paths = [f"class/{number:07d}.jpg" for number in range(20_000)]
    tracemalloc.start()
    try:
        table = FileTable.ordered((None, 7, path) for path in paths)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held / len(table) < 16, "an object for each would take 56, and 8 to hold it"
    assert peak / len(table) < 40
