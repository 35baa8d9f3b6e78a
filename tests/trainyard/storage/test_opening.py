"""Which store a database belongs to."""

from __future__ import annotations

import asyncio
import logging
from concurrent.futures import Future
from pathlib import Path

import fsspec.asyn
import pytest
from aiohttp import ClientConnectionResetError

from trainyard.database.connection import Database
from trainyard.errors import StorageMismatch
from trainyard.settings import Settings
from trainyard.storage.local import LocalStorage
from trainyard.storage.opening import StoreGuard, leave_to_calls, open_storage


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


def test_a_request_that_nobody_waits_for_is_logged_unless_its_connection_was_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.new_event_loop()
    for error in (ClientConnectionResetError("closing"), ValueError("a mistake of ours")):
        leave_to_calls(loop, {"message": "nobody has asked", "exception": error})
    loop.close()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert "a mistake of ours" in caplog.text


def test_an_object_stores_loop_leaves_closed_connections_to_calls(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, storage_url="s3://bucket/yard", storage_endpoint="http://127.0.0.1:1")
    open_storage(settings).close()
    loop = fsspec.asyn.get_loop()
    handlers: Future[object] = Future()
    loop.call_soon_threadsafe(lambda: handlers.set_result(loop.get_exception_handler()))
    assert handlers.result(10) is leave_to_calls
