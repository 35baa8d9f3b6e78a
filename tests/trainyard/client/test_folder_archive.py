from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from trainyard.client.folder_archive import ArchiveFile, FolderArchive, SourceChanged, open_source

LONG = (
    "a long name of a folder, longer than the hundred characters that the oldest format of a tar archive has room for"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "flowers"
    sizes = {"rose/1.jpg": 0, "rose/2.jpg": 1, "tulip/a.jpg": 512, f"{LONG}/b.jpg": 513, "čeština/ž.png": 70_000}
    for number, (name, size) in enumerate(sizes.items()):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(bytes([number + 1]) * size)
    (root / "link").symlink_to("/etc/passwd")
    (root / "elsewhere").symlink_to("/etc")
    os.mkfifo(root / "pipe")
    return root


def read_all(source: FolderArchive | ArchiveFile, offset: int = 0) -> bytes:
    return b"".join(source.read_from(offset))


def test_it_is_a_tar_of_the_folders_files_and_nothing_else(folder: Path) -> None:
    source = FolderArchive(folder)
    data = read_all(source)
    assert (len(data), source.num_files, source.file_name) == (source.size_bytes, 5, "flowers.tar")
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = archive.getmembers()
        for member in members:
            file = archive.extractfile(member)
            assert file is not None
            assert file.read() == (folder / member.name).read_bytes()
    assert [member.name for member in members] == sorted(member.name for member in members)
    assert {member.mtime for member in members} == {0}


def test_it_reads_on_from_any_byte(folder: Path) -> None:
    source = FolderArchive(folder)
    data = read_all(source)
    offsets = {*range(0, 6000, 101), *range(0, len(data) + 1, 4999), 511, 512, 513, len(data) - 1, len(data)}
    for offset in offsets:
        assert read_all(source, offset) == data[offset:], offset


def test_the_same_folder_gives_the_same_bytes_and_fingerprint_in_another_process(folder: Path) -> None:
    first, second = FolderArchive(folder), FolderArchive(folder)
    assert (first.fingerprint, read_all(first)) == (second.fingerprint, read_all(second))
    os.utime(folder / "rose/2.jpg", ns=(1, 1))
    assert FolderArchive(folder).fingerprint != first.fingerprint


@pytest.mark.parametrize("content", [b"", b"x" * 511, b"y" * 512])
def test_a_file_that_changes_meanwhile_is_noticed(folder: Path, content: bytes) -> None:
    source = FolderArchive(folder)
    (folder / "tulip/a.jpg").write_bytes(content)
    os.utime(folder / "tulip/a.jpg", ns=(1, 1))
    with pytest.raises(SourceChanged, match=r"a\.jpg has changed"):
        read_all(source)


def test_an_archive_that_changes_meanwhile_is_noticed_before_its_last_bytes_are_sent(tmp_path: Path) -> None:
    """An upload that has all bytes is complete: nobody asks the source for more."""
    path = tmp_path / "flowers.zip"
    path.write_bytes(b"PK" + b"a" * 4998)
    source = open_source(path)
    path.write_bytes(b"b" * 5000)
    os.utime(path, ns=(1, 1))
    with pytest.raises(SourceChanged, match=r"flowers\.zip has changed"):
        next(source.read_from(0))


def test_an_archive_is_sent_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "flowers.zip"
    path.write_bytes(b"PK\3\4" + bytes(range(4, 256)) + bytes(range(256)) * 9)
    source = open_source(path)
    assert isinstance(source, ArchiveFile)
    assert (source.file_name, source.size_bytes) == ("flowers.zip", 2560)
    assert read_all(source, 2000) == path.read_bytes()[2000:]


def test_what_can_not_be_sent_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty" / "folder").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds no file"):
        open_source(tmp_path / "empty")
    with pytest.raises(FileNotFoundError):
        open_source(tmp_path / "missing.zip")


@pytest.mark.parametrize("content", [b"", b"x", b"\x89PNG\r\n\x1a\n" + bytes(600), bytes(600)])
def test_a_file_that_is_no_archive_is_refused_before_it_is_sent(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "rose.zip"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="is no archive: give a folder with a folder of pictures for each class"):
        open_source(path)


@pytest.mark.parametrize("mode", ["w:", "w:gz"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_archives_are_known_by_their_bytes_whatever_their_names(
    tmp_path: Path, mode: Literal["w:", "w:gz"], form: int
) -> None:
    path = tmp_path / "flowers"
    (tmp_path / "ä").write_bytes(b"1")
    with tarfile.open(path, mode, format=form) as tar:
        tar.add(tmp_path / "ä", "ä" * 40)
    assert open_source(path).size_bytes == path.stat().st_size
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a", b"1")
    assert open_source(path).size_bytes == path.stat().st_size


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(b"1")
    source = open_source(tmp_path)
    (tmp_path / "b").unlink()
    with pytest.raises(SourceChanged, match="b was removed while its folder was read: start again"):
        list(source.read_from(0))
