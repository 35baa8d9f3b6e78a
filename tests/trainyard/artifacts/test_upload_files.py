"""The bytes of uploads on disk: one writer at a time, and nothing outside the folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from trainyard.artifacts.upload_files import UploadFolder
from trainyard.database.ids import new_id
from trainyard.errors import StorageUnavailable
from trainyard.upload_errors import DiskFull, UploadLocked


@pytest.fixture
def folder(tmp_path: Path) -> UploadFolder:
    return UploadFolder(tmp_path)


def test_bytes_are_appended_and_cut(folder: UploadFolder) -> None:
    upload = new_id("upl")
    folder.create(upload)
    with folder.opened(upload) as file:
        file.append(b"12345")
        file.append(memoryview(b"67"))
        file.sync()
        assert (file.size, file.read(0, 100)) == (7, b"1234567")
    with folder.opened(upload) as file:
        file.cut(3)
        file.append(b"x")
    assert (folder.path(upload) / "content").read_bytes() == b"123x"


def test_only_one_writer_opens_it(folder: UploadFolder) -> None:
    upload = new_id("upl")
    folder.create(upload)
    with folder.opened(upload):
        with pytest.raises(UploadLocked), folder.opened(upload):
            pass
        assert not folder.remove(upload)
    with folder.opened(upload):
        pass
    assert folder.remove(upload)
    assert folder.remove(upload)
    with pytest.raises(FileNotFoundError), folder.opened(upload):
        pass


def test_the_lock_ends_with_its_process(folder: UploadFolder, tmp_path: Path) -> None:
    upload = new_id("upl")
    folder.create(upload)
    code = (
        "import sys; from pathlib import Path; from trainyard.artifacts.upload_files import UploadFolder\n"
        "with UploadFolder(Path(sys.argv[1])).opened(sys.argv[2]): print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path), upload]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(UploadLocked), folder.opened(upload):
            pass
        holder.kill()
        holder.wait(10)
    with folder.opened(upload):
        pass


def test_a_folder_keeps_its_id(folder: UploadFolder, tmp_path: Path) -> None:
    first = folder.read_id()
    assert first == folder.read_id() == UploadFolder(tmp_path).read_id()
    assert first != UploadFolder(tmp_path / "other").read_id()
    assert folder.list_ids() == []


@pytest.mark.parametrize("name", ["..", "../../etc", "upl_../x", "", "content", "upl_x/y"])
def test_what_is_no_id_is_no_path(folder: UploadFolder, name: str) -> None:
    with pytest.raises(ValueError, match="not the id"):
        folder.path(name)


def test_a_link_in_the_place_of_the_file_is_not_followed(folder: UploadFolder, tmp_path: Path) -> None:
    upload, elsewhere = new_id("upl"), tmp_path / "precious"
    elsewhere.write_bytes(b"precious")
    folder.create(upload)
    content = folder.path(upload) / "content"
    content.unlink()
    content.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"), folder.opened(upload):
        pass
    assert elsewhere.read_bytes() == b"precious"


def test_space_that_is_to_stay_free_stays_free(tmp_path: Path) -> None:
    disk = os.statvfs(tmp_path)
    free = disk.f_bavail * disk.f_frsize
    UploadFolder(tmp_path, min_free_bytes=free // 2).check_space(free // 4)
    with pytest.raises(DiskFull, match="bytes more do not fit"):
        UploadFolder(tmp_path, min_free_bytes=free // 2).check_space(free)


def test_a_full_disk_and_a_broken_one_are_told_apart(folder: UploadFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = new_id("upl")
    folder.create(upload)
    with folder.opened(upload) as file:
        for number, kind in ((28, DiskFull), (122, DiskFull), (5, StorageUnavailable)):

            def fail(*_: object, number: int = number) -> int:
                raise OSError(number, os.strerror(number))

            with monkeypatch.context() as patch:
                patch.setattr(os, "pwrite", fail)
                with pytest.raises(kind):
                    file.append(b"x")


def test_a_writer_sees_who_waits_for_its_end(folder: UploadFolder) -> None:
    upload = new_id("upl")
    folder.create(upload)
    assert not folder.is_written(upload)
    with folder.opened(upload) as file:
        assert folder.is_written(upload)
        assert not file.is_awaited()
        with folder.waiting(upload) as one, folder.waiting(upload) as other:
            one.take()
            other.take()
            assert file.is_awaited()
        assert not file.is_awaited()
    with folder.waiting(new_id("upl")) as place:  # it is gone
        place.take()
