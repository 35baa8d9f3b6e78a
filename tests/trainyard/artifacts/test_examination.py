"""When a checkpoint counts as damaged, as missing, and when nothing can be said about it."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.trainyard import rows as db_rows
from trainyard.artifacts.examination import Condition, examine, set_aside_unless_whole
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, JobEvent
from trainyard.errors import StorageUnavailable
from trainyard.storage.local import LocalStorage

MANIFEST = b"{}"


@pytest.fixture
def row(database: Database, tmp_path: Path) -> Checkpoint:
    """A whole checkpoint of one file and its manifest, in a store that has a mark."""
    db_rows.submit(database)
    checkpoint_id = db_rows.commit(database, db_rows.claim(database), 10)
    with database.writing() as session:
        row = session.get_one(Checkpoint, checkpoint_id)
        row.files = {"weights.safetensors": {"sha256": sha256(b"whole").hexdigest(), "size": 5}}
        row.manifest_sha256 = sha256(MANIFEST).hexdigest()
        folder = tmp_path / "data" / row.key
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_bytes(MANIFEST)
    (folder / "weights.safetensors").write_bytes(b"whole")
    (tmp_path / "data" / "store-id").write_text("store_own\n")
    with database.reading() as session:
        return session.get_one(Checkpoint, checkpoint_id)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    storage = LocalStorage(tmp_path / "data")
    storage.expect("store_own")
    return storage


@pytest.mark.parametrize(
    ("name", "content", "condition"),
    [
        (None, None, Condition.WHOLE),
        ("weights.safetensors", b"other", Condition.DAMAGED),
        ("manifest.json", b"{ }", Condition.DAMAGED),
        ("weights.safetensors", None, Condition.MISSING),
        ("manifest.json", None, Condition.MISSING),
    ],
)
def test_only_bytes_that_were_read_and_differ_are_damage(
    storage: LocalStorage, row: Checkpoint, name: str | None, content: bytes | None, condition: Condition
) -> None:
    if name is not None:
        (storage.folder(row.key) / name).unlink()
        if content is not None:
            (storage.folder(row.key) / name).write_bytes(content)
    assert examine(storage, row) is condition


@pytest.mark.parametrize("mark", [None, "store_other\n"])
def test_a_folder_that_is_not_the_yards_says_nothing(
    database: Database, storage: LocalStorage, row: Checkpoint, tmp_path: Path, mark: str | None
) -> None:
    """A disk that is away leaves an empty folder; another machine may have a data folder of its own."""
    (tmp_path / "data").rename(tmp_path / "away")
    (tmp_path / "data").mkdir()
    if mark is not None:
        (tmp_path / "data" / "store-id").write_text(mark)
    with pytest.raises(StorageUnavailable):
        set_aside_unless_whole(database, storage, row, "a trainer could not read it")
    assert db_rows.statuses(database) == {row.id: "committed"}


@pytest.mark.parametrize(("content", "status"), [(b"other", "corrupt"), (None, "missing"), (b"whole", "committed")])
def test_the_database_says_what_the_store_says(
    database: Database, storage: LocalStorage, row: Checkpoint, content: bytes | None, status: str
) -> None:
    weights = storage.folder(row.key) / "weights.safetensors"
    weights.unlink()
    if content is not None:
        weights.write_bytes(content)
    set_aside_unless_whole(database, storage, row, "a trainer could not read it")
    assert db_rows.statuses(database) == {row.id: status}
    with database.reading() as session:
        reasons = list(session.scalars(select(JobEvent.reason).where(JobEvent.type == "warning")))
    assert reasons == ([] if status == "committed" else [f"checkpoint_{status}"])
