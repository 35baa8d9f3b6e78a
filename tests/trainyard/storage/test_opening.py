"""Which store a database belongs to."""

from __future__ import annotations

from pathlib import Path

import pytest

from trainyard.database.connection import Database
from trainyard.errors import StorageMismatch
from trainyard.settings import Settings
from trainyard.storage.local import LocalStorage
from trainyard.storage.opening import StoreGuard, open_storage


def test_without_a_url_the_data_folder_is_the_store(tmp_path: Path) -> None:
    assert isinstance(open_storage(Settings(data_dir=tmp_path)), LocalStorage)


def test_the_first_process_joins_store_and_database_and_others_must_see_the_same(
    database: Database, tmp_path: Path
) -> None:
    own, other = LocalStorage(tmp_path / "own"), LocalStorage(tmp_path / "other")
    StoreGuard(database, own).check()
    StoreGuard(database, LocalStorage(tmp_path / "own")).check()
    with pytest.raises(StorageMismatch, match="store-id"):
        StoreGuard(database, other).check()
    assert other.read_mark() is None, "an empty folder is not made the yard's own: it may be a disk that is away"
    other.write_mark("store_other")
    with pytest.raises(StorageMismatch, match="store_other"):
        StoreGuard(database, other).check()


def test_a_store_whose_disk_goes_away_later_is_refused(database: Database, tmp_path: Path) -> None:
    guard = StoreGuard(database, LocalStorage(tmp_path / "own"))
    guard.check()
    (tmp_path / "own").rename(tmp_path / "away")
    with pytest.raises(StorageMismatch):
        guard.check()
    (tmp_path / "away").rename(tmp_path / "own")
    guard.check()
