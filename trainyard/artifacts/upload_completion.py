"""Ends uploads: stores the file of one that has all its bytes, and removes what is left of one that nobody wants."""

from __future__ import annotations

import hashlib

from alexnet_core.layout import upload_key
from trainyard.artifacts import uploads
from trainyard.artifacts.deletion import remove_files
from trainyard.artifacts.upload_files import UploadFile, UploadFolder
from trainyard.database.connection import Database
from trainyard.storage.interface import Storage

_PIECE_BYTES = 4 << 20


def complete_upload(
    database: Database,
    storage: Storage,
    folder: UploadFolder,
    upload_id: str,
    file: UploadFile,
    *,
    sha256: str | None,
    expires_s: float,
) -> None:
    """Publish the file of an upload that has all its bytes, then mark the upload as whole. Harmless if it is.

    Args:
        database: of the yard.
        storage: where workers will find it.
        folder: in which it arrived.
        upload_id: the upload.
        file: its file, synced, to which only the caller may write.
        sha256: of its content; None: it is read once more.
        expires_s: after so long it is removed, unless a dataset is made of it.

    Raises:
        StorageUnavailable: the store does not take it now; the reconciler tries again.
    """
    found = sha256 or compute_sha256(file)
    storage.publish(folder.path(upload_id), upload_key(upload_id))
    with database.writing() as session:
        is_new = uploads.finish(session, upload_id, size_bytes=file.size, sha256=found, expires_s=expires_s)
        if not is_new and not uploads.exists(session, upload_id):
            uploads.remove(session, upload_id)  # it was cancelled meanwhile: what was published must go


def is_stored_in_place(storage: Storage, folder: UploadFolder, upload_id: str) -> bool:
    """Whether an upload arrives where the storage keeps it, so that its folder stays there when it is whole."""
    return storage.place(upload_key(upload_id), "") == folder.path(upload_id)


def compute_sha256(file: UploadFile) -> str:
    """Return the sha256 of a file's content."""
    digest, at = hashlib.sha256(), 0
    while data := file.read(at, _PIECE_BYTES):
        digest.update(data)
        at += len(data)
    return digest.hexdigest()


def discard_upload(database: Database, storage: Storage, folder: UploadFolder, upload_id: str) -> None:
    """Remove an upload with its files, unless a dataset is being made of it. What can't be removed now goes later."""
    with database.writing() as session:
        key = uploads.release(session, upload_id)
    if key is None:
        return
    remove_files(storage, [key])
    folder.remove(upload_id)
