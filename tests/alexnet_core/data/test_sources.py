"""Files in a folder, by path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alexnet_core.data.sources import FolderSource, read_whole
from alexnet_core.errors import DatasetUnavailable, ImageTooLarge, ImageUnreadable


def test_files_of_a_folder_are_read_and_links_on_the_way_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "1.png").write_bytes(b"secret")
    folder = tmp_path / "images"
    (folder / "a").mkdir(parents=True)
    (folder / "a" / "1.png").write_bytes(b"one")
    (folder / "a" / "link.png").symlink_to(tmp_path / "secret" / "1.png")
    (folder / "b").symlink_to(tmp_path / "secret")
    os.mkfifo(folder / "a" / "pipe.png")
    source = FolderSource(folder)
    assert sorted(source.paths) == ["a/", "a/1.png", "a/link.png", "a/pipe.png", "b/"]
    assert read_whole(source, "a/1.png", 3) == b"one"
    with pytest.raises(ImageTooLarge, match="more than 2 bytes"):
        read_whole(source, "a/1.png", 2)
    for path in ("a/link.png", "a/pipe.png", "b/1.png"):
        with pytest.raises(ImageUnreadable, match="link or no file"):
            source.open(path)


def test_a_folder_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable, match="no folder"):
        FolderSource(tmp_path / "nothing")
