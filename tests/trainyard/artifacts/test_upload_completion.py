"""The end of an upload in an object store: its file is published, and nothing stays on the disk where it arrived."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import update

from alexnet_core.layout import upload_key
from tests.object_store import ObjectServer
from tests.trainyard.artifacts.test_uploads import advance, begin, read
from trainyard.artifacts import uploads
from trainyard.artifacts.upload_completion import complete_upload, discard_upload, is_stored_in_place
from trainyard.artifacts.upload_files import UploadFolder
from trainyard.database.connection import Database
from trainyard.database.tables import Upload
from trainyard.errors import StorageUnavailable
from trainyard.states import UploadState
from trainyard.storage.interface import Storage
from trainyard.storage.local import LocalStorage
from trainyard.storage.opening import open_storage
from trainyard.upkeep.abandoned_uploads import AbandonedUploads

DATA = b"0123456789" * 10


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    server = ObjectServer()
    server.start()
    server.make_bucket()
    yield server
    server.stop()


@pytest.fixture(params=["data folder", "object store"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    if request.param == "data folder":
        yield LocalStorage(tmp_path)
        return
    opened = open_storage(request.getfixturevalue("server").settings(tmp_path))
    yield opened
    opened.close()


@pytest.fixture
def folder(tmp_path: Path) -> UploadFolder:
    return UploadFolder(tmp_path)


def arrive(database: Database, folder: UploadFolder) -> Upload:
    """An upload whose bytes are all on disk, as its row says."""
    upload = begin(database, len(DATA), folder_id=folder.read_id())
    folder.create(upload.id)
    with folder.opened(upload.id) as file:
        file.append(DATA)
        file.sync()
    advance(database, upload, 0, len(DATA))
    return upload


def complete(database: Database, storage: Storage, folder: UploadFolder, upload: Upload) -> None:
    with folder.opened(upload.id) as file:
        complete_upload(database, storage, folder, upload.id, file, sha256=None, expires_s=60)


def tick(database: Database, storage: Storage, folder: UploadFolder) -> None:
    AbandonedUploads(database, storage, folder, expires_s=60).tick()


def test_a_worker_finds_the_file_in_the_store(database: Database, storage: Storage, folder: UploadFolder) -> None:
    upload = arrive(database, folder)
    complete(database, storage, folder, upload)
    complete(database, storage, folder, upload)  # harmless
    tick(database, storage, folder)
    found = read(database, upload)
    assert (found.state, found.sha256) == (UploadState.WHOLE, hashlib.sha256(DATA).hexdigest())
    with storage.materialise(upload_key(upload.id)) as path:
        assert (path / "content").read_bytes() == DATA
    assert (folder.list_ids() == [upload.id]) == is_stored_in_place(storage, folder, upload.id)
    discard_upload(database, storage, folder, upload.id)
    assert folder.list_ids() == []
    assert not storage.exists(upload_key(upload.id))


def test_one_that_the_store_did_not_take_is_completed_later(
    database: Database, storage: Storage, folder: UploadFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = arrive(database, folder)

    def refuse(*_: object) -> None:
        raise StorageUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(type(storage), "publish", refuse)
        with pytest.raises(StorageUnavailable):
            complete(database, storage, folder, upload)
        tick(database, storage, folder)
    assert read(database, upload).state is UploadState.OPEN
    tick(database, storage, folder)
    assert read(database, upload).state is UploadState.WHOLE
    assert storage.exists(upload_key(upload.id), "content")


def test_an_empty_one_is_left_to_the_request_that_makes_it(
    database: Database, storage: Storage, folder: UploadFolder
) -> None:
    upload = begin(database, 0, folder_id=folder.read_id())
    folder.create(upload.id)
    tick(database, storage, folder)
    assert read(database, upload).state is UploadState.OPEN
    with database.writing() as session:
        session.execute(update(Upload).values(created_at=Upload.created_at - 3600))
    tick(database, storage, folder)
    assert read(database, upload).state is UploadState.WHOLE


def test_one_that_was_cancelled_while_it_was_stored_is_removed_again(
    database: Database, storage: Storage, folder: UploadFolder
) -> None:
    upload = arrive(database, folder)
    with folder.opened(upload.id) as file:
        with database.writing() as session:
            uploads.remove(session, upload.id)
        complete_upload(database, storage, folder, upload.id, file, sha256=None, expires_s=60)
    with database.reading() as session:
        assert not uploads.exists(session, upload.id)
    tick(database, storage, folder)
    assert folder.list_ids() == []
