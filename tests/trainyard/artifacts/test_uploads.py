"""Uploads in the database: each change is a compare-and-set, and quotas hold however many begin at once."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import select, update

from trainyard.artifacts import quotas, uploads
from trainyard.artifacts.quotas import Quota
from trainyard.artifacts.uploads import NewUpload
from trainyard.database.connection import Database, now
from trainyard.database.tables import Dataset, Removal, Upload
from trainyard.errors import InUse, TooLarge
from trainyard.states import DatasetState, UploadState
from trainyard.upload_errors import QuotaExceeded, UploadNotFound, UploadOffsetMismatch

OWNER, MOST = "local", 10**9
FREE = Quota()


def begin(database: Database, size: int | None = 100, *, owner: str = OWNER, quota: Quota = FREE, **new: Any) -> Upload:
    with database.writing() as session:
        wanted = NewUpload(new.pop("folder_id", "store_a"), new.pop("expires_s", 60), size, **new)
        return uploads.create_upload(session, owner, wanted, quota, max_bytes=MOST)


def advance(database: Database, upload: Upload, start: int, end: int, quota: Quota = FREE) -> None:
    with database.writing() as session:
        uploads.advance(session, upload, start, end, quota, expires_s=60)


def read(database: Database, upload: Upload, owner: str = OWNER) -> Upload:
    with database.reading() as session:
        return uploads.get_upload(session, owner, upload.id)


def add_dataset(database: Database, name: str, *, state: str = "ready", upload: str = "", **facts: Any) -> None:
    with database.writing() as session:
        session.add(
            Dataset(
                id=f"ds_{name}", owner=OWNER, name=name, state=state, facts=facts, key=f"packs/{name}",
                size_bytes=500 if state == "ready" else None, source={"upload": upload}, created_at=now(),
            )
        )  # fmt: skip


def set_state(database: Database, name: str, state: DatasetState) -> None:
    with database.writing() as session:
        session.execute(update(Dataset).where(Dataset.id == f"ds_{name}").values(state=state))


def complete(database: Database, upload: Upload, *, expires_s: float = -1) -> None:
    advance(database, upload, 0, 100)
    with database.writing() as session:
        assert uploads.finish(session, upload.id, size_bytes=100, sha256="a" * 64, expires_s=expires_s)


def sweep(database: Database) -> list[str]:
    with database.writing() as session:
        return [key.partition("/")[2] for key in uploads.expire(session)]


def test_an_offset_moves_only_from_where_it_is(database: Database) -> None:
    upload = begin(database)
    advance(database, upload, 0, 40)
    for start in (0, 39, 41):
        with pytest.raises(UploadOffsetMismatch, match="goes on at 40"):
            advance(database, upload, start, 50)
    advance(database, upload, 40, 100)
    assert read(database, upload).offset_bytes == 100


def test_two_writers_never_both_move_it(database: Database) -> None:
    upload, outcomes, start = begin(database), [], threading.Barrier(4)

    def move() -> None:
        start.wait(60)
        try:
            advance(database, upload, 0, 50)
            outcomes.append("moved")
        except UploadOffsetMismatch:
            outcomes.append("refused")

    threads = [threading.Thread(target=move) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(outcomes) == ["moved", "refused", "refused", "refused"]


def test_it_becomes_whole_once_and_only_with_all_its_bytes(database: Database) -> None:
    upload = begin(database)

    def finish() -> bool:
        with database.writing() as session:
            return uploads.finish(session, upload.id, size_bytes=100, sha256="a" * 64, expires_s=60)

    assert not finish()
    advance(database, upload, 0, 100)
    assert [finish(), finish()] == [True, False]
    found = read(database, upload)
    assert (found.state, found.sha256) == (UploadState.WHOLE, "a" * 64)
    with pytest.raises(UploadOffsetMismatch):
        advance(database, upload, 100, 101)


def test_another_owner_s_and_an_expired_one_are_not_found(database: Database) -> None:
    upload, expired = begin(database), begin(database, expires_s=-1)
    with pytest.raises(UploadNotFound):
        read(database, upload, "another")
    with pytest.raises(UploadNotFound):
        read(database, expired)
    with database.reading() as session:
        assert [row.id for row in uploads.list_uploads(session, OWNER, limit=10).items] == [upload.id]
        assert uploads.list_uploads(session, "another", limit=10).items == []


def test_the_expired_are_removed_with_a_record_of_their_files(database: Database) -> None:
    stays, expired, whole = begin(database), begin(database, expires_s=-1), begin(database)
    complete(database, whole)
    assert set(sweep(database)) == {expired.id, whole.id}
    with database.reading() as session:
        assert set(session.scalars(select(Upload.id))) == {stays.id}
        assert set(session.scalars(select(Removal.key))) == {f"uploads/{expired.id}", f"uploads/{whole.id}"}


def test_one_that_a_dataset_is_made_of_stays_until_its_last_dataset_is_checked(database: Database) -> None:
    upload = begin(database)
    advance(database, upload, 0, 100)
    with database.writing() as session:
        assert uploads.finish(session, upload.id, size_bytes=100, sha256="", expires_s=60)
        assert uploads.hold(session, OWNER, upload.id)
    for name in ("one", "two"):
        add_dataset(database, name, state="validating", upload=upload.id)
    assert sweep(database) == []
    with database.writing() as session, pytest.raises(InUse):
        uploads.cancel(session, OWNER, upload.id)
    set_state(database, "one", DatasetState.READY)
    assert sweep(database) == []
    set_state(database, "two", DatasetState.REJECTED)
    assert sweep(database) == [upload.id]
    with pytest.raises(UploadNotFound):
        read(database, upload)
    with database.writing() as session:
        uploads.remove(session, upload.id)  # harmless


def test_a_dataset_may_name_an_upload_that_is_not_whole(database: Database) -> None:
    upload = begin(database)
    with database.writing() as session:
        assert not uploads.hold(session, OWNER, upload.id)
    with database.writing() as session, pytest.raises(UploadNotFound) as caught:
        uploads.hold(session, "another", upload.id)
    assert caught.value.param == "upload"
    assert read(database, upload).expires_at is not None


def test_a_size_is_set_once(database: Database) -> None:
    upload = begin(database, None)
    advance(database, upload, 0, 40)

    def set_size(size: int) -> None:
        with database.writing() as session:
            uploads.set_size(session, OWNER, upload.id, size, FREE, max_bytes=MOST)

    with pytest.raises(UploadOffsetMismatch):
        set_size(39)
    with pytest.raises(TooLarge):
        set_size(MOST + 1)
    set_size(50)
    set_size(50)
    with pytest.raises(UploadOffsetMismatch):
        set_size(60)


class TestQuota:
    def test_bytes_of_datasets_and_uploads_count_together(self, database: Database) -> None:
        add_dataset(database, "flowers")
        add_dataset(database, "bad", state="failed")
        quota = Quota(num_bytes=1000)
        begin(database, 400, quota=quota)
        with pytest.raises(QuotaExceeded, match="take 900 of 1000 bytes"):
            begin(database, 101, quota=quota)
        assert begin(database, 101, quota=quota, owner="another")
        unknown = begin(database, None, quota=quota)
        advance(database, unknown, 0, 100, quota)
        with pytest.raises(QuotaExceeded):
            advance(database, unknown, 100, 101, quota)

    def test_datasets_and_images_count(self, database: Database) -> None:
        add_dataset(database, "flowers", num_train=80, num_val=10, num_test=None)
        add_dataset(database, "bad", state="rejected")
        assert begin(database, quota=Quota(num_datasets=2, num_images=91))
        with pytest.raises(QuotaExceeded, match="1 datasets, and 1 are allowed"):
            begin(database, quota=Quota(num_datasets=1))
        with pytest.raises(QuotaExceeded, match="90 images together"):
            begin(database, quota=Quota(num_images=90))

    def test_it_holds_however_many_begin_at_once(self, database: Database) -> None:
        outcomes: list[str] = []
        start = threading.Barrier(6)

        def try_it() -> None:
            start.wait(60)
            try:
                begin(database, 400, quota=Quota(num_bytes=1000))
                outcomes.append("begun")
            except QuotaExceeded:
                outcomes.append("refused")

        threads = [threading.Thread(target=try_it) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(outcomes) == ["begun"] * 2 + ["refused"] * 4
        with database.reading() as session:
            assert quotas.count_bytes(session, OWNER) == 800


def test_one_that_was_just_kept_for_a_dataset_is_not_cancelled(database: Database) -> None:
    upload = begin(database)
    complete(database, upload, expires_s=60)
    with database.writing() as session:
        seen = uploads.get_upload(session, OWNER, upload.id)
        assert seen.expires_at is not None
        uploads.hold(session, OWNER, upload.id)  # after the look, before the removal
        with pytest.raises(InUse):
            uploads.cancel(session, OWNER, upload.id)


def test_one_that_a_dataset_needs_is_not_released(database: Database) -> None:
    upload = begin(database)
    complete(database, upload, expires_s=60)
    with database.writing() as session:
        uploads.hold(session, OWNER, upload.id)
    add_dataset(database, "one", state="validating", upload=upload.id)
    with database.writing() as session:
        assert uploads.release(session, upload.id) is None
    set_state(database, "one", DatasetState.READY)
    with database.writing() as session:
        assert uploads.release(session, upload.id) == f"uploads/{upload.id}"
    with database.writing() as session:
        assert uploads.release(session, upload.id) == f"uploads/{upload.id}", "harmless if it is gone"
