from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainyard.artifacts.operator_folders import find_source
from trainyard.errors import InvalidRequest


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "pictures" / "flowers" / "rose").mkdir(parents=True)
    (tmp_path / "pictures" / "flowers.zip").touch()
    (tmp_path / "secret").mkdir()
    return tmp_path / "pictures"


def test_a_folder_and_an_archive_below_are_found(pictures: Path) -> None:
    setting = f"/nowhere:{pictures}"
    for name in ("flowers", "flowers.zip", "flowers/rose", "flowers/../flowers"):
        assert find_source(setting, str(pictures / name)) == (pictures / name).resolve()


def test_what_is_outside_is_refused_in_the_words_for_what_is_missing(pictures: Path) -> None:
    (pictures / "way_out").symlink_to(pictures.parent / "secret")
    (pictures / "loop").symlink_to(pictures / "loop")
    os.mkfifo(pictures / "pipe")
    outside = ["..", "../secret", "missing", "way_out", "loop", "pipe", "nul\0", "flowers.zip/x", "."]
    for name in outside:
        with pytest.raises(InvalidRequest, match="is no folder and no file below") as refused:
            find_source(f"{pictures}:/of-the-operator", str(pictures / name))
        assert "/of-the-operator" not in str(refused.value)
    for name in ("flowers", "", "~", "/"):
        with pytest.raises(InvalidRequest, match="give an absolute path"):
            find_source(str(pictures), name)


def test_without_folders_no_path_is_taken(pictures: Path) -> None:
    with pytest.raises(InvalidRequest, match="TRAINYARD_DATASET_FOLDERS names no folder"):
        find_source("", str(pictures / "flowers"))
