"""Writes the body of one request to the end of an upload, in a thread."""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from trainyard.artifacts import uploads
from trainyard.artifacts.quotas import Quota
from trainyard.artifacts.upload_completion import complete_upload, is_stored_in_place
from trainyard.artifacts.upload_files import UploadFile, UploadFolder
from trainyard.database.connection import Database
from trainyard.database.tables import Upload
from trainyard.errors import InvalidRequest, ServiceError, StorageUnavailable, TooLarge
from trainyard.states import UploadState
from trainyard.storage.interface import Storage
from trainyard.upload_errors import ChecksumMismatch, UploadOffsetMismatch

log = logging.getLogger(__name__)

STEP_BYTES = 64 << 20  #: after so many new bytes they are synced, and the offset is written: a crash loses no more
STEP_S = 2.0  #: or after so many seconds
MAX_DIGESTS = 256

#: What a piece of a request's body holds of the file; a form has more in it.
Unwrap = Callable[[bytes], Iterable[bytes | memoryview]]


@dataclass(frozen=True)
class Checksum:
    """What the bytes of one request must add up to."""

    algorithm: str
    expected: bytes


class Digests:
    """The running sha256 of uploads, so that the file of one that comes in many requests is not read again."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, tuple[int, hashlib._Hash]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, upload_id: str, offset: int) -> hashlib._Hash | None:
        """Return the digest of an upload's first bytes, and forget it. None: this process does not know it."""
        if offset == 0:
            return hashlib.sha256()
        with self._lock:
            known, digest = self._known.pop(upload_id, (-1, None))
        return digest if known == offset else None

    def keep(self, upload_id: str, offset: int, digest: hashlib._Hash) -> None:
        """Remember the digest of an upload's first bytes."""
        with self._lock:
            self._known[upload_id] = (offset, digest)
            while len(self._known) > MAX_DIGESTS:
                self._known.popitem(last=False)


@dataclass(frozen=True)
class Place:
    """Where the uploads of this process are: rows, bytes on the way, and stored files."""

    database: Database
    storage: Storage
    folder: UploadFolder
    quota: Quota
    max_bytes: int
    digests: Digests


class UploadWriter:
    """The only writer of an upload, from its opening to `close`. Used by one thread at a time."""

    def __init__(
        self,
        place: Place,
        upload: Upload,
        file: UploadFile,
        held: ExitStack,
        *,
        expires_s: float,
        checksum: Checksum | None = None,
        unwrap: Unwrap | None = None,
    ) -> None:
        """See `open_writer`."""
        self._place, self._upload, self._file, self._held = place, upload, file, held
        self._expires_s, self._checksum, self._unwrap = expires_s, checksum, unwrap
        self._sum = None if checksum is None else hashlib.new(checksum.algorithm, usedforsecurity=False)
        self._committed = upload.offset_bytes
        self._digest = place.digests.take(upload.id, self._committed)
        self._committed_at = time.monotonic()
        self._is_stored = False

    @property
    def is_complete(self) -> bool:
        """Whether all bytes that were announced are on disk."""
        return self._committed == self._upload.size_bytes

    @property
    def offset(self) -> int:
        """Bytes that are on disk, as the row says."""
        return self._committed

    def is_awaited(self) -> bool:
        """Whether a request of another process waits until this one has ended."""
        return self._file.is_awaited()

    def write(self, pieces: list[bytes]) -> None:
        """Write a part of the body. From time to time it is synced, and the row follows.

        Raises:
            ServiceError: it is too large, there is no space for it, or the upload is gone.
        """
        unwrap = self._unwrap
        found = pieces if unwrap is None else [data for piece in pieces for data in unwrap(piece)]
        if found:
            self._append(found[0] if len(found) == 1 else b"".join(found))
        grown = self._file.size - self._committed
        is_due = grown >= STEP_BYTES or time.monotonic() - self._committed_at >= STEP_S
        if grown and is_due:
            self._place.folder.check_space(0)
            if self._checksum is None:
                self.commit()

    def _append(self, data: bytes | memoryview) -> None:
        end, announced = self._file.size + len(data), self._upload.size_bytes
        if announced is not None and end > announced:
            raise TooLarge(
                f"the upload has {announced} bytes, as its Upload-Length says, and the body goes on: send no more than "
                "the rest"
            )
        uploads.check_size(end, self._place.max_bytes)
        try:
            self._file.append(data)
        except ServiceError:
            self._digest = None  # a part of it may be written: the file is read once more when it is whole
            raise
        if self._digest is not None:
            self._digest.update(data)
        if self._sum is not None:
            self._sum.update(data)

    def commit(self) -> None:
        """Sync what was written, then let the row say so.

        Raises:
            ServiceError: the disk or the database does not take it, or the upload is gone.
        """
        end = self._file.size
        self._file.sync()
        with self._place.database.writing() as session:
            uploads.advance(session, self._upload, self._committed, end, self._place.quota, expires_s=self._expires_s)
        self._committed, self._committed_at = end, time.monotonic()

    def end_here(self, name: str | None, *, expires_s: float) -> None:
        """Say that what was written is all of the file, whose size was not announced. Now it is stored.

        Raises:
            InvalidRequest: it is empty.
            ServiceError: the disk or the database does not take it, or the upload is gone.
        """
        if self._file.size == 0:
            raise InvalidRequest("the file is empty: send an archive of images", param="file")
        self.commit()
        with self._place.database.writing() as session:
            uploads.end_at(session, self._upload.id, self._committed, name, expires_s=expires_s)
        self._upload.size_bytes = self._committed

    def check(self) -> None:
        """Check the bytes of the whole body against their checksum, if they have one.

        Raises:
            ChecksumMismatch: they differ.
        """
        if self._checksum is not None and self._sum is not None and self._sum.digest() != self._checksum.expected:
            raise ChecksumMismatch(param="Upload-Checksum")

    def complete(self) -> None:
        """Store the file: this is all of it.

        Raises:
            ServiceError: the storage or the database does not take it; the reconciler tries again.
        """
        place, sha256 = self._place, None if self._digest is None else self._digest.hexdigest()
        complete_upload(
            place.database,
            place.storage,
            place.folder,
            self._upload.id,
            self._file,
            sha256=sha256,
            expires_s=self._expires_s,
        )
        self._is_stored = True

    def save(self) -> None:
        """Keep what has come of a body that was cut off, unless it has a checksum that nobody can check now."""
        if self._checksum is None and self._file.size > self._committed:
            try:
                self.commit()
            except ServiceError as exc:
                log.info("the end of an upload is not kept", extra={"upload": self._upload.id, "detail": str(exc)})

    def close(self) -> None:
        """Let others write to the upload. Bytes that the row does not know are cut off by the next writer."""
        if self._digest is not None and self._file.size == self._committed:
            self._place.digests.keep(self._upload.id, self._committed, self._digest)
        self._held.close()
        if self._is_stored and not is_stored_in_place(self._place.storage, self._place.folder, self._upload.id):
            self._place.folder.remove(self._upload.id)


def open_writer(
    place: Place,
    owner: str,
    upload_id: str,
    start: int,
    *,
    expires_s: float,
    checksum: Checksum | None = None,
    unwrap: Unwrap | None = None,
) -> UploadWriter:
    """Open an upload where a client wants to go on, and keep others from writing to it until `close`.

    Raises:
        UploadNotFound: there is none.
        UploadOffsetMismatch: it goes on elsewhere, or is complete.
        UploadLocked: another request writes to it.
        StorageUnavailable: its bytes are on the disk of another process, or missing.
    """
    with ExitStack() as held:
        _check_start(_read(place, owner, upload_id), start)  # also where the file of a complete one is gone
        file = _lock(place, _read(place, owner, upload_id), held)
        upload = _read(place, owner, upload_id)  # once more: nobody else can move it from here on
        _check_start(upload, start)
        if file.size < start:
            raise StorageUnavailable(f"upload {upload.id} has lost bytes that were on disk: cancel it and begin again")
        file.cut(start)
        return UploadWriter(place, upload, file, held.pop_all(), expires_s=expires_s, checksum=checksum, unwrap=unwrap)


def _read(place: Place, owner: str, upload_id: str) -> Upload:
    with place.database.reading() as session:
        return uploads.get_upload(session, owner, upload_id)


def _check_start(upload: Upload, start: int) -> None:
    if upload.state is UploadState.WHOLE:
        raise UploadOffsetMismatch(f"upload {upload.id} is complete, so nothing can be added", param="Upload-Offset")
    if upload.offset_bytes != start:
        raise UploadOffsetMismatch(
            f"the upload goes on at {upload.offset_bytes}, and this is for {start}: send what comes after "
            f"{upload.offset_bytes} bytes",
            param="Upload-Offset",
        )


def _lock(place: Place, upload: Upload, held: ExitStack) -> UploadFile:
    if upload.folder_id != place.folder.read_id():
        raise StorageUnavailable(
            f"the bytes of upload {upload.id} are on the disk of another API process: send all requests for it there"
        )
    try:
        return held.enter_context(place.folder.opened(upload.id))
    except FileNotFoundError as exc:
        raise StorageUnavailable(f"the bytes of upload {upload.id} are missing: is its disk mounted?") from exc
