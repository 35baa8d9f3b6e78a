"""Opens the store that the settings name, and checks that the database belongs to it."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
from typing import Any

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from trainyard.database.connection import Database
from trainyard.database.ids import new_id
from trainyard.database.tables import StoreIdentity
from trainyard.errors import DatabaseUnavailable, StorageUnavailable
from trainyard.settings import Settings
from trainyard.storage.interface import Storage
from trainyard.storage.local import LocalStorage
from trainyard.storage.objects import ObjectStorage
from trainyard.storage.remote import RemoteFiles

CONNECT_TIMEOUT_S = 5


def open_storage(settings: Settings) -> Storage:
    """Return the data folder, or the object store that `storage_url` names, as a store. Nothing is read from it yet.

    Raises:
        ValueError: an object store is named, and `s3fs` is not installed.
    """
    if settings.storage_url is None:
        return LocalStorage(settings.data_dir)
    if importlib.util.find_spec("s3fs") is None:
        raise ValueError("TRAINYARD_STORAGE_URL needs s3fs: install trainyard with the extra `s3`")
    root = settings.storage_url.removeprefix("s3://")
    files = RemoteFiles(_connect(settings), root)
    local = settings.data_dir / "store"
    return ObjectStorage(files, local, cache_bytes=settings.storage_cache_bytes)


def _connect(settings: Settings) -> Any:
    """Return the filesystem. It tries nothing twice, as `RemoteFiles` does that, and does not cache listings."""
    from s3fs import S3FileSystem

    key, secret = settings.storage_access_key, settings.storage_secret_key
    filesystem = S3FileSystem(
        endpoint_url=settings.storage_endpoint,
        key=None if key is None else key.get_secret_value(),
        secret=None if secret is None else secret.get_secret_value(),
        client_kwargs={"region_name": settings.storage_region},
        config_kwargs={
            "connect_timeout": min(CONNECT_TIMEOUT_S, settings.storage_timeout_s),
            "read_timeout": settings.storage_timeout_s,
            "retries": {"total_max_attempts": 1},
        },
        use_listings_cache=False,
        skip_instance_cache=True,
    )
    filesystem.retries = 1
    filesystem.loop.call_soon_threadsafe(filesystem.loop.set_exception_handler, leave_to_calls)
    return filesystem


def leave_to_calls(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what goes wrong in the event loop of the object store's client, but for what a call fails with anyway.

    When a store closes a connection, both the task that writes the request and the call that waits for the answer fail.
    Nobody waits for the first one, and asyncio would log it with its traceback.
    """
    from aiohttp import ClientError

    if not isinstance(context.get("exception"), ClientError):
        loop.default_exception_handler(context)


class StoreGuard:
    """Lets a storage use only the store that the database belongs to.

    The id in a store is written once, and so is the one in the database; the first process of a yard makes them equal.
    A store without an id belongs to the yard only if the database has no id either: an empty folder in its place may
    mean that a disk is not mounted.
    """

    def __init__(self, database: Database, storage: Storage) -> None:
        self._database, self._storage, self._is_known = database, storage, False

    def check(self) -> None:
        """Return if the store answers and is the yard's own.

        Raises:
            StorageMismatch: it is another one; the message says which.
            StorageUnavailable: it does not answer.
            DatabaseUnavailable: the database does not answer, or has no tables yet.
        """
        if self._is_known:
            self._storage.confirm()
            return
        known = self._read_id() or self._join()
        self._storage.expect(known)
        self._storage.confirm()
        self._is_known = True

    def _join(self) -> str:
        """Record the store's id in the database, after giving the store one if it has none."""
        if (found := self._storage.read_mark()) is None:
            self._storage.write_mark(new_id("store"))
            found = self._storage.read_mark()
        if found is None:
            raise StorageUnavailable("the store does not keep what is written to it")
        with contextlib.suppress(IntegrityError), self._database.writing() as session:
            session.add(StoreIdentity(number=1, store_id=found))  # unless another process was faster
        return self._read_id() or found

    def _read_id(self) -> str | None:
        try:
            with self._database.reading() as session:
                return session.scalar(select(StoreIdentity.store_id))
        except SQLAlchemyError as exc:  # the tables are not there yet, or are of another version
            raise DatabaseUnavailable("the database has no place for the store's id yet: `trainyard migrate`") from exc
