"""Removes uploads that expired and bytes that belong to nobody, and completes uploads whose process was killed."""

from __future__ import annotations

import logging

from trainyard.artifacts import uploads
from trainyard.artifacts.deletion import remove_files
from trainyard.artifacts.upload_completion import complete_upload, is_stored_in_place
from trainyard.artifacts.upload_files import UploadFolder
from trainyard.database.connection import Database
from trainyard.errors import ServiceError
from trainyard.storage.interface import Storage
from trainyard.upload_errors import UploadLocked

log = logging.getLogger(__name__)


class AbandonedUploads:
    """Looks after the uploads of a yard, and after the bytes in the folder of this process."""

    def __init__(self, database: Database, storage: Storage, folder: UploadFolder, *, expires_s: float) -> None:
        self._database, self._storage, self._folder, self._expires_s = database, storage, folder, expires_s

    def tick(self) -> None:
        """Remove what has expired, then what has no row. Nothing while the store is not the yard's own."""
        self._storage.confirm()
        with self._database.writing() as session:
            keys = uploads.expire(session)
        if keys:
            log.info("uploads have expired", extra={"uploads": len(keys)})
        remove_files(self._storage, keys)  # what can't be removed now has its record
        found = self._folder.list_ids()
        if found:
            self._sweep_folder(found)
            self._complete()

    def _sweep_folder(self, found: list[str]) -> None:
        """Remove folders that no row needs. A row is made before its folder, so the folders were listed first."""
        with self._database.reading() as session:
            needed = uploads.find_needed(session, found, is_in_place=self._is_in_place(found[0]))
        for upload_id in found:
            if upload_id not in needed and self._folder.remove(upload_id):
                log.info("removed the bytes of an upload that is gone", extra={"upload": upload_id})

    def _is_in_place(self, upload_id: str) -> bool:
        return is_stored_in_place(self._storage, self._folder, upload_id)

    def _complete(self) -> None:
        with self._database.reading() as session:
            unfinished = uploads.find_unfinished(session, self._folder.read_id())
        for upload_id in unfinished:
            try:
                self._complete_one(upload_id)
            except UploadLocked:
                continue  # the request that wrote it is at it
            except (ServiceError, OSError) as exc:
                log.warning("an upload can't be completed now", extra={"upload": upload_id, "detail": str(exc)})

    def _complete_one(self, upload_id: str) -> None:
        with self._folder.opened(upload_id) as file:
            with self._database.reading() as session:
                size_bytes = uploads.size_of(session, upload_id)
            if size_bytes is None or file.size < size_bytes:
                return
            file.cut(size_bytes)
            complete_upload(
                *(self._database, self._storage, self._folder, upload_id, file), sha256=None, expires_s=self._expires_s
            )
