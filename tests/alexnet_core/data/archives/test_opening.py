"""Which files are archives, and what others are called."""

from __future__ import annotations

import bz2
import lzma
import os
from pathlib import Path

import pytest

from alexnet_core.errors import DatasetInvalid, DatasetUnavailable
from tests.alexnet_core.archive_files import compress, end_of_zip, png, read_all, tar_of, two_classes, zip_of

TAR = tar_of(two_classes(2))
ARCHIVES = {"zip": zip_of(two_classes(2)), "tar": TAR, "gz": compress(TAR, "gz"), "zst": compress(TAR, "zst")}


@pytest.mark.parametrize("how", ARCHIVES)
def test_an_archive_is_known_by_its_bytes_whatever_its_name(tmp_path: Path, how: str) -> None:
    path = tmp_path / "images.jpg"
    path.write_bytes(ARCHIVES[how])
    assert read_all(path) == two_classes(2)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lzma.compress(TAR), "compressed by xz"),
        (bz2.compress(TAR), "compressed by bzip2"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(100), "a 7z archive"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(100), "a RAR archive"),
        (png(), "not an archive"),
        (b"hello", "not an archive"),
        (png() + zip_of(two_classes(2)), "a zip with something else in front of it"),
        (b"#!/bin/sh\n" + zip_of(two_classes(2)), "a zip with something else in front of it"),
        (
            b"hello" + b"PK\6\7" + bytes(12) + b"\2\0\0\0" + end_of_zip(0, 0, 0),
            "a zip with something else in front of it",
        ),
    ],
)
def test_what_is_not_read_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(DatasetInvalid, match=f"{says}. Pack the images as .zip") as exc:
        read_all(tmp_path / "x")
    assert exc.value.problem == "archive_unsupported"


def test_an_empty_file_was_cut_off(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(DatasetInvalid, match="truncated") as exc:
        read_all(tmp_path / "x")
    assert exc.value.problem == "archive_damaged"


def test_an_empty_archive_has_no_members(tmp_path: Path) -> None:
    for content in (zip_of({}), tar_of({}), compress(tar_of({}), "gz")):
        (tmp_path / "x").write_bytes(content)
        assert read_all(tmp_path / "x") == {}


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    for name in ("x", "nothing"):
        with pytest.raises(DatasetUnavailable, match="There is no file"):
            read_all(tmp_path / name)


def test_a_link_that_the_user_names_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(ARCHIVES["zip"])
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert read_all(tmp_path / "link") == two_classes(2)
