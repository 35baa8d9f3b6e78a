"""Uploads in the database: how far each has come, when it expires, and how it ends.

The row is made before the file, and removed before it, so a file without a row belongs to nobody. An offset is written
after the bytes before it are synced, so what a client is told is on disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, delete, or_, select, update
from sqlalchemy.orm import Session

from alexnet_core.layout import upload_key
from trainyard.artifacts import dataset_intake, predictions, quotas
from trainyard.artifacts.quotas import Quota
from trainyard.database.connection import now, update_rows
from trainyard.database.ids import has_form, new_id
from trainyard.database.pages import Page, get_page
from trainyard.database.tables import Removal, Upload
from trainyard.errors import InUse, TooLarge
from trainyard.states import UploadState
from trainyard.upload_errors import UploadNotFound, UploadOffsetMismatch

_AT_ONCE = 100
_BEING_MADE_S = 60.0  # after which no request that made an empty upload can still be about to complete it
_USERS = (dataset_intake, predictions)  # what is made of an upload, in the order in which rows are locked


@dataclass(frozen=True)
class NewUpload:
    """What a client says about a file before it sends it."""

    folder_id: str  #: where its bytes will arrive
    expires_s: float  #: without a new byte
    size_bytes: int | None = None  #: None: not known yet
    at_most_bytes: int = 0  #: if the size is not known: what the request announces, for the quota
    name: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


def create_upload(session: Session, owner: str, new: NewUpload, quota: Quota, *, max_bytes: int) -> Upload:
    """Make the row of a new upload.

    Raises:
        TooLarge: it is larger than an upload may be.
        QuotaExceeded: its owner may not have it.
    """
    check_size(new.size_bytes or 0, max_bytes)
    quotas.hold_owner(session, owner)
    quotas.check_upload(session, owner, quota, new.at_most_bytes if new.size_bytes is None else new.size_bytes)
    upload = Upload(
        id=new_id("upl"),
        owner=owner,
        name=new.name,
        details=dict(new.metadata),
        state=UploadState.OPEN,
        size_bytes=new.size_bytes,
        offset_bytes=0,
        sha256=None,
        folder_id=new.folder_id,
        created_at=now(),
        expires_at=now() + new.expires_s,
    )
    session.add(upload)
    session.flush()
    session.refresh(upload)
    return upload


def check_size(size_bytes: int, max_bytes: int) -> None:
    """Check that an upload is not larger than an upload may be.

    Raises:
        TooLarge: it is.
    """
    if size_bytes > max_bytes:
        raise TooLarge(
            f"the file has {size_bytes} bytes, and a dataset's file may have {max_bytes}: send a smaller one, or raise "
            "TRAINYARD_MAX_DATASET_UPLOAD_BYTES"
        )


def get_upload(session: Session, owner: str, upload_id: str, *, param: str = "upload_id") -> Upload:
    """Return an upload.

    Raises:
        UploadNotFound: there is none, it has expired, or it is another owner's.
    """
    query = select(Upload).where(Upload.id == upload_id, *_visible(owner))
    found = session.scalars(query).one_or_none() if has_form(upload_id, "upl") else None
    if found is None:
        raise UploadNotFound(
            f"there is no upload {upload_id[:100]!r}: it was cancelled, has expired, or a dataset or a prediction was "
            "made of it. Start a new one with `POST /uploads`",
            param=param,
        )
    return found


def list_uploads(session: Session, owner: str, *, limit: int, after: str | None = None) -> Page[Upload]:
    """Return a page of an owner's uploads, newest first."""
    return get_page(session, select(Upload).where(*_visible(owner)), Upload, limit=limit, after=after)


def exists(session: Session, upload_id: str) -> bool:
    """Whether there is an upload with this id, of whatever owner."""
    return session.scalar(select(Upload.id).where(Upload.id == upload_id)) is not None


def set_size(session: Session, owner: str, upload_id: str, size_bytes: int, quota: Quota, *, max_bytes: int) -> None:
    """Set the size of an upload that was begun without one.

    Raises:
        UploadNotFound: there is none.
        UploadOffsetMismatch: it has another size already, or more bytes.
        TooLarge: it is larger than an upload may be.
        QuotaExceeded: it does not fit into its owner's quota.
    """
    check_size(size_bytes, max_bytes)
    quotas.hold_owner(session, owner)
    upload = get_upload(session, owner, upload_id)
    if upload.size_bytes == size_bytes:
        return
    if upload.size_bytes is not None or upload.offset_bytes > size_bytes:
        told = upload.offset_bytes if upload.size_bytes is None else upload.size_bytes
        raise UploadOffsetMismatch(
            f"the upload's length can't become {size_bytes}: it is {told}", param="Upload-Length"
        )
    quotas.check_bytes(session, owner, quota, size_bytes - upload.offset_bytes)
    _change(session, upload_id, size_bytes=size_bytes)


def advance(session: Session, upload: Upload, start: int, end: int, quota: Quota, *, expires_s: float) -> None:
    """Record that an upload's bytes are on disk up to `end`, if they were up to `start` before.

    Raises:
        UploadNotFound: it was cancelled or has expired.
        UploadOffsetMismatch: it is at another offset.
        QuotaExceeded: its size was not announced, and it grows beyond its owner's quota.
    """
    if upload.size_bytes is None:
        quotas.hold_owner(session, upload.owner)
        quotas.check_bytes(session, upload.owner, quota, end - start)
    same = (Upload.id == upload.id, Upload.offset_bytes == start, Upload.state == UploadState.OPEN)
    moved = update(Upload).where(*same).values(offset_bytes=end, expires_at=now() + expires_s)
    if update_rows(session, moved.execution_options(synchronize_session=False)) == 0:
        found = get_upload(session, upload.owner, upload.id)
        raise UploadOffsetMismatch(f"the upload {upload.id} goes on at {found.offset_bytes}, not at {start}")


def end_at(session: Session, upload_id: str, size_bytes: int, name: str | None, *, expires_s: float) -> None:
    """Set the size of an upload to what has come, and its name if it was not known before.

    It is stored next, which may take longer than the pauses between the bytes: it does not expire for `expires_s`.
    """
    is_all = Upload.offset_bytes == size_bytes
    _change(session, upload_id, is_all, size_bytes=size_bytes, expires_at=now() + expires_s)
    if name is not None:
        _change(session, upload_id, name=name)


def finish(session: Session, upload_id: str, *, size_bytes: int, sha256: str, expires_s: float) -> bool:
    """Record that an upload is complete and in the storage. What waits for it begins now.

    Returns:
        Whether this made it so. False: it was so before, or it is gone.
    """
    complete = (Upload.id == upload_id, Upload.state == UploadState.OPEN, Upload.offset_bytes == size_bytes)
    statement = update(Upload).where(*complete)
    values = {
        "state": UploadState.WHOLE,
        "size_bytes": size_bytes,
        "sha256": sha256,
        "expires_at": now() + expires_s,
    }
    if update_rows(session, statement.values(values).execution_options(synchronize_session=False)) == 0:
        return False
    owner = session.scalars(select(Upload.owner).where(Upload.id == upload_id)).one()
    are_waiting = [user.upload_is_whole(session, owner, upload_id) for user in _USERS]  # each of them is told
    if any(are_waiting):
        _change(session, upload_id, expires_at=None)
    return True


def hold(session: Session, owner: str, upload_id: str, *, param: str = "upload") -> bool:
    """Keep an upload for what this transaction makes of it: once it is whole, it does not expire.

    Returns:
        Whether it is whole. False: `upload_is_whole` of that module is called when it is.

    Raises:
        UploadNotFound: there is none.
    """
    get_upload(session, owner, upload_id, param=param)
    locked = select(Upload.state).where(Upload.id == upload_id).with_for_update()
    state = session.scalar(locked)
    if state is None:
        raise UploadNotFound(param=param)
    _change(session, upload_id, Upload.state == UploadState.WHOLE, expires_at=None)
    return state is UploadState.WHOLE


def cancel(session: Session, owner: str, upload_id: str) -> str:
    """Remove an upload's row at its owner's request. Datasets that wait for it are rejected, predictions fail.

    Returns:
        The key of what is to be removed from the storage once this transaction is committed.

    Raises:
        UploadNotFound: there is none.
        InUse: a dataset is being made of it, or its images are predicted.
    """
    get_upload(session, owner, upload_id)
    locked = select(Upload.expires_at).where(Upload.id == upload_id).with_for_update()  # before what waits for it
    row = session.execute(locked).one_or_none()
    if row is not None and row.expires_at is None:
        raise InUse(
            f"a dataset is being made of upload {upload_id}, or its images are predicted: delete the dataset, cancel "
            "the prediction, or wait for its end"
        )
    _tell_that_it_is_gone(session, owner, upload_id)
    return remove(session, upload_id)


def release(session: Session, upload_id: str) -> str | None:
    """Remove an upload's row, unless a dataset or a prediction still needs it: `expire` removes it after that.

    Returns:
        The key of what is to be removed from the storage once this transaction is committed. None: it stays.
    """
    locked = select(Upload.owner).where(Upload.id == upload_id).with_for_update()
    owner = session.scalar(locked)
    if owner is not None and session.scalar(select(_is_needed(owner, upload_id))):
        return None
    return remove(session, upload_id)


def remove(session: Session, upload_id: str) -> str:
    """Remove an upload's row, and record that its files are to be removed. Harmless if it is gone.

    Returns:
        The key of what is to be removed from the storage once this transaction is committed.
    """
    session.execute(delete(Upload).where(Upload.id == upload_id).execution_options(synchronize_session=False))
    key = upload_key(upload_id)
    if session.get(Removal, key) is None:
        session.add(Removal(key=key, created_at=now()))
    session.flush()
    return key


def expire(session: Session) -> list[str]:
    """Remove the rows of uploads that have expired, and of those that no dataset and no prediction needs any more.

    Returns:
        The keys of what is to be removed from the storage once this transaction is committed.
    """
    due = select(Upload.id, Upload.owner).where(Upload.expires_at <= now()).order_by(Upload.id).limit(_AT_ONCE)
    expired = session.execute(due.with_for_update(skip_locked=True)).all()
    for upload_id, owner in expired:
        _tell_that_it_is_gone(session, owner, upload_id)
    was_used = (Upload.state == UploadState.WHOLE, Upload.expires_at.is_(None))
    used = select(Upload.id).where(*was_used, ~_is_needed(Upload.owner, Upload.id))
    done = session.scalars(used.order_by(Upload.id).limit(_AT_ONCE).with_for_update(skip_locked=True)).all()
    return [remove(session, upload_id) for upload_id in [*(row.id for row in expired), *done]]


def find_unfinished(session: Session, folder_id: str) -> list[str]:
    """Return the uploads whose bytes are all in a folder, but which are not whole: a process was killed in between.

    An empty one has them all as soon as it is made, so it is first left to the request that makes it.
    """
    full = (
        Upload.state == UploadState.OPEN,
        Upload.offset_bytes == Upload.size_bytes,
        Upload.folder_id == folder_id,
        or_(Upload.size_bytes > 0, Upload.created_at <= now() - _BEING_MADE_S),
    )
    return list(session.scalars(select(Upload.id).where(*full).order_by(Upload.id).limit(_AT_ONCE)))


def find_needed(session: Session, upload_ids: list[str], *, is_in_place: bool) -> set[str]:
    """Return those of some uploads whose bytes are needed where they arrived.

    Args:
        session: any.
        upload_ids: the uploads.
        is_in_place: whether they stay there when they are whole.
    """
    query = select(Upload.id) if is_in_place else select(Upload.id).where(Upload.state == UploadState.OPEN)
    needed: set[str] = set()
    for start in range(0, len(upload_ids), _AT_ONCE):
        needed |= set(session.scalars(query.where(Upload.id.in_(upload_ids[start : start + _AT_ONCE]))))
    return needed


def size_of(session: Session, upload_id: str) -> int | None:
    """Return the size of an upload that is open. None: it has none yet, or there is no such upload."""
    return session.scalar(select(Upload.size_bytes).where(Upload.id == upload_id, Upload.state == UploadState.OPEN))


def _is_needed(owner: Any, upload_id: Any) -> ColumnElement[bool]:
    return or_(*(user.needs_upload(owner, upload_id) for user in _USERS))


def _tell_that_it_is_gone(session: Session, owner: str, upload_id: str) -> None:
    for user in _USERS:
        user.upload_is_gone(session, owner, upload_id)


def _change(session: Session, upload_id: str, *conditions: Any, **values: Any) -> None:
    statement = update(Upload).where(Upload.id == upload_id, *conditions).values(values)
    session.execute(statement.execution_options(synchronize_session=False))


def _visible(owner: str) -> tuple[Any, ...]:
    return (Upload.owner == owner, (Upload.expires_at.is_(None)) | (Upload.expires_at > now()))
