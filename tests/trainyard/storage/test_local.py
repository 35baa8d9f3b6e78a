"""The data folder as a store: what is the very folder, what is only believed of the right one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from trainyard.errors import StorageUnavailable
from trainyard.storage.local import LocalStorage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "data")


def make(storage: LocalStorage, key: str) -> Path:
    folder = storage.place(key, "writer")
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"content")
    return folder


def test_what_is_made_in_its_place_is_published_without_a_copy(storage: LocalStorage) -> None:
    folder = make(storage, "packs/ds_x")
    storage.publish(folder, "packs/ds_x")
    with storage.materialise("packs/ds_x") as materialised:
        assert materialised == folder
    storage.clear("packs/ds_x", "writer")
    assert storage.exists("packs/ds_x", "file")
    assert not storage.exists("packs/ds_x", "pack.json")


def test_what_is_made_elsewhere_comes_with_a_rename(storage: LocalStorage, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    (tmp_path / "made/file").write_bytes(b"content")
    storage.publish(tmp_path / "made", "packs/ds_x")
    assert not (tmp_path / "made").exists()
    assert storage.exists("packs/ds_x", "file")


def test_a_part_is_removed_alone(storage: LocalStorage) -> None:
    folder = make(storage, "checkpoints/job_1/epoch-00000001-e1")
    (folder / "state").mkdir()
    assert storage.delete("checkpoints/job_1/epoch-00000001-e1", "state")
    assert sorted(path.name for path in folder.iterdir()) == ["file"]


def test_a_folder_is_not_removed_under_its_reader(storage: LocalStorage) -> None:
    make(storage, "packs/ds_x")
    with storage.materialise("packs/ds_x"):
        assert not storage.delete("packs/ds_x")
    assert storage.delete("packs/ds_x")
    with pytest.raises(FileNotFoundError), storage.materialise("packs/ds_x"):
        pass


def test_a_mark_is_written_once(storage: LocalStorage) -> None:
    assert storage.read_mark() is None
    storage.write_mark("store_1")
    storage.write_mark("store_2")
    assert storage.read_mark() == "store_1"
    assert sorted(os.listdir(storage.folder("x").parent)) == ["store-id"]


@pytest.mark.parametrize("found", [None, "store_2"])
def test_a_store_without_the_expected_mark_says_nothing(storage: LocalStorage, found: str | None) -> None:
    make(storage, "packs/ds_x")
    if found is not None:
        storage.write_mark(found)
    storage.expect("store_1")
    for act in (storage.confirm, lambda: storage.exists("packs/ds_y"), storage.materialise("packs/ds_y").__enter__):
        with pytest.raises(StorageUnavailable, match="store-id"):
            act()


def test_a_disk_that_is_away_is_not_a_folder_that_is_not_there(storage: LocalStorage) -> None:
    """Without a mark it is told by the folder above."""
    with pytest.raises(StorageUnavailable), storage.materialise("checkpoints/job_1/epoch-00000001-e1"):
        pass


def test_streams_are_regular_files_and_grow(storage: LocalStorage) -> None:
    log = storage.place("logs/jobs/job_1.log", "writer")
    log.parent.mkdir(parents=True)
    assert storage.list_streams("logs/jobs/job_1.log") == []
    with storage.following(log, "logs/jobs/job_1.log", 1):
        log.write_bytes(b"one\n")
        (stream,) = storage.list_streams("logs/jobs/job_1.log")
        assert (stream.key, stream.size_bytes) == ("logs/jobs/job_1.log", 4)
        assert storage.read_stream(stream.key, 1, 100) == b"ne\n"
    os.mkfifo(log.with_name("pipe"))
    (log.parent / "link").symlink_to(log)
    assert [stream.key for stream in storage.list_streams("logs/jobs")] == ["logs/jobs/job_1.log"]


@pytest.mark.parametrize("key", ["", "../x", "/etc/passwd", "a/../../b"])
def test_a_key_stays_within_the_store(storage: LocalStorage, key: str) -> None:
    with pytest.raises(ValueError, match="not a key"):
        storage.folder(key)


def test_a_part_of_a_file_is_read(storage: LocalStorage) -> None:
    storage.publish(make(storage, "packs/ds_x"), "packs/ds_x")
    assert storage.read_part("packs/ds_x", "file", 2, 5) == b"nte"
    assert storage.read_part("packs/ds_x", "file", 5, 500) == b"nt"
    with pytest.raises(FileNotFoundError):
        storage.read_part("packs/ds_x", "nothing", 0, 5)
    os.mkfifo(storage.folder("packs/ds_x") / "pipe")
    (storage.folder("packs/ds_x") / "link").symlink_to("file")
    for replaced in ("pipe", "link"):
        with pytest.raises(FileNotFoundError):
            storage.read_part("packs/ds_x", replaced, 0, 5)
