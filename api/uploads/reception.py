"""Receives the bytes of uploads: reads bodies in the event loop, and writes them in threads of its own.

A body is never in memory: about two megabytes of it wait for the disk, and the client waits with them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import nullcontext
from typing import TypeVar

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect

from api.uploads.forms import UploadForm
from api.uploads.other_processes import OtherProcesses
from api.uploads.shares import OwnerShares
from api.uploads.turns import Turn, UploadTurns
from api.uploads.writing import Checksum, Digests, Place, Unwrap, UploadWriter, open_writer
from trainyard.artifacts import uploads
from trainyard.artifacts.deletion import remove_files
from trainyard.artifacts.quotas import Quota
from trainyard.artifacts.upload_completion import discard_upload
from trainyard.artifacts.upload_files import UploadFolder
from trainyard.artifacts.uploads import NewUpload
from trainyard.database.connection import Database
from trainyard.database.tables import Upload
from trainyard.errors import DatabaseUnavailable, ServiceError, Unavailable
from trainyard.settings import Settings
from trainyard.storage.interface import Storage

T = TypeVar("T")

THREADS = 8  #: that write; beside those of the other routes, so that a slow disk holds up only uploads
PIECE_BYTES = 1 << 20  #: written at once
PIECE_S = 1.0  #: or so often, if the bytes come slowly
BODY_EXPIRES_S = 90.0  #: an upload that can't be resumed is removed so long after its last bytes


class Reception:
    """Begins uploads, takes their bytes, and ends them."""

    def __init__(
        self, settings: Settings, database: Database, storage: Storage, is_draining: Callable[[], bool]
    ) -> None:
        self._folder = UploadFolder(settings.data_dir, min_free_bytes=settings.min_free_disk_bytes)
        self._place = Place(
            database, storage, self._folder, Quota.of(settings), settings.max_dataset_upload_bytes, Digests()
        )
        self._expires_s, self._is_draining = settings.upload_expires_s, is_draining
        self._limiter = anyio.CapacityLimiter(THREADS)
        self._turns, self._shares = UploadTurns(), OwnerShares(settings.max_uploads_at_once)
        self._others = OtherProcesses(self._folder, self._limiter)

    # --- what the routes call ---

    async def begin(
        self, owner: str, *, size_bytes: int | None, name: str | None, metadata: Mapping[str, str]
    ) -> Upload:
        """Make a new, empty upload, which a client may send in several requests.

        Raises:
            ServiceError: it is too large, or there is no space for it.
        """
        return await self._begin(owner, expires_s=self._expires_s, size_bytes=size_bytes, name=name, metadata=metadata)

    async def receive(
        self, owner: str, upload_id: str, start: int, body: AsyncIterator[bytes], *, checksum: Checksum | None = None
    ) -> int:
        """Add a request's body to an upload. If it is cut off, what has come stays.

        Returns:
            The new offset; so many bytes are on disk.

        Raises:
            ServiceError: it does not go on there, is written by another request, or can't be written.
        """
        offset = 0
        async with self._turns.taking(upload_id) as turn:
            await self._others.replace(upload_id)
            offset = await self._write(
                owner, upload_id, start, turn.watch(body), turn=turn, checksum=checksum, expires_s=self._expires_s
            )
        return offset

    async def receive_whole(
        self, owner: str, body: AsyncIterator[bytes], *, announced: int | None, form: UploadForm | None
    ) -> str:
        """Make an upload of one request's body. If it is cut off or refused, nothing of it stays.

        Args:
            owner: whose it is.
            body: the file, or the form that holds it.
            announced: bytes of the body; None: it comes in chunks.
            form: finds the file in the body; None: the body is the file.

        Returns:
            The id of the upload. It expires soon, unless a dataset is made of it.

        Raises:
            ServiceError: it is too large, there is no space for it, or it can't be written.
        """
        size_bytes = announced if form is None else None
        upload = await self._begin(owner, expires_s=BODY_EXPIRES_S, size_bytes=size_bytes, at_most_bytes=announced or 0)
        try:
            unwrap = None if form is None else form.feed
            await self._write(
                owner, upload.id, 0, body, unwrap=unwrap, form=form, expires_s=BODY_EXPIRES_S, is_whole=True
            )
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.discard(upload.id)
            raise
        return upload.id

    async def prepare_to_resume(self, upload_id: str) -> None:
        """End the request that writes to an upload and gets no bytes: its client has come back.

        Raises:
            UploadLocked: a request still gets bytes, or does not end.
        """
        await self._turns.replace(upload_id)
        await self._others.replace(upload_id)

    async def interrupt(self, upload_id: str) -> None:
        """End the request that writes to an upload, if there is one: its client gives it up.

        Raises:
            UploadLocked: it does not end.
        """
        await self._turns.interrupt(upload_id)

    async def discard(self, upload_id: str) -> None:
        """Remove an upload with its files. While the database is away, it stays until it expires."""
        try:
            await self._run(self._discard, upload_id)
        except DatabaseUnavailable:
            return

    async def cancel(self, owner: str, upload_id: str) -> None:
        """Remove an upload at its owner's request.

        Raises:
            ServiceError: there is none, or a dataset is being made of it.
        """
        await self._run(self._cancel, owner, upload_id)

    async def set_size(self, owner: str, upload_id: str, size_bytes: int) -> None:
        """Set the size of an upload that was begun without one.

        Raises:
            ServiceError: there is none, or it can't have this size.
        """
        await self._run(self._set_size, owner, upload_id, size_bytes)

    # --- how ---

    async def _run(self, work: Callable[..., T], *args: object) -> T:
        return await anyio.to_thread.run_sync(lambda: work(*args), limiter=self._limiter)

    async def _begin(
        self,
        owner: str,
        *,
        expires_s: float,
        size_bytes: int | None,
        at_most_bytes: int = 0,
        name: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Upload:
        def begin() -> Upload:
            place = self._place
            uploads.check_size(size_bytes or 0, place.max_bytes)
            place.folder.check_space(at_most_bytes if size_bytes is None else size_bytes)
            new = NewUpload(place.folder.read_id(), expires_s, size_bytes, at_most_bytes, name, metadata or {})
            with place.database.writing() as session:
                upload = uploads.create_upload(session, owner, new, place.quota, max_bytes=place.max_bytes)
            try:
                place.folder.create(upload.id)
            except ServiceError:
                self._discard(upload.id)
                raise
            return upload

        return await self._run(begin)

    async def _write(
        self,
        owner: str,
        upload_id: str,
        start: int,
        body: AsyncIterator[bytes],
        *,
        expires_s: float,
        turn: Turn | None = None,
        checksum: Checksum | None = None,
        unwrap: Unwrap | None = None,
        form: UploadForm | None = None,
        is_whole: bool = False,
    ) -> int:
        writer = await self._run(
            lambda: open_writer(
                self._place, owner, upload_id, start, expires_s=expires_s, checksum=checksum, unwrap=unwrap
            )
        )
        try:
            try:
                with self._shares.taking(owner):
                    async with nullcontext() if turn is None else self._others.seen_by(turn, writer):
                        await self._pump(writer, body)
            except ClientDisconnect:
                if not is_whole:
                    await self._run(writer.save)
                raise
            await self._run(self._end, writer, form, is_whole)
        finally:
            with anyio.CancelScope(shield=True):
                if not is_whole:
                    await self._run(writer.save)
                await self._run(writer.close)
        return writer.offset

    async def _pump(self, writer: UploadWriter, body: AsyncIterator[bytes]) -> None:
        """Hand the body to the writer in pieces. One is written while the next one arrives."""
        pieces: list[bytes] = []
        size, handed_at = 0, time.monotonic()
        writing: asyncio.Future[None] | None = None

        async def hand_over() -> asyncio.Future[None]:
            nonlocal pieces, size, handed_at
            full, pieces, size, handed_at = pieces, [], 0, time.monotonic()
            if writing is not None:
                await asyncio.shield(writing)
            return asyncio.ensure_future(self._run(writer.write, full))

        try:
            async for data in body:
                pieces.append(data)
                size += len(data)
                if size >= PIECE_BYTES or time.monotonic() - handed_at >= PIECE_S:
                    writing = await hand_over()
                    if self._is_draining():
                        raise Unavailable("this API process is stopping: go on in a moment", retry_after_s=2)
            writing = await hand_over()
            await asyncio.shield(writing)
        except ClientDisconnect:
            writing = await hand_over()  # what has come is kept
            raise
        finally:
            if writing is not None and not writing.done():
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([writing])
            if writing is not None and not writing.cancelled():
                writing.exception()  # it was raised already, or what is raised now goes before it

    def _end(self, writer: UploadWriter, form: UploadForm | None, is_whole: bool) -> None:
        if form is not None:
            form.finish()
        writer.check()
        if is_whole:
            writer.end_here(None if form is None else form.file_name, expires_s=self._expires_s)
        else:
            writer.commit()
        if writer.is_complete:
            writer.complete()

    def _discard(self, upload_id: str) -> None:
        discard_upload(self._place.database, self._place.storage, self._folder, upload_id)

    def _cancel(self, owner: str, upload_id: str) -> None:
        with self._place.database.writing() as session:
            key = uploads.cancel(session, owner, upload_id)
        remove_files(self._place.storage, [key])
        self._folder.remove(upload_id)

    def _set_size(self, owner: str, upload_id: str, size_bytes: int) -> None:
        place = self._place
        with place.database.writing() as session:
            uploads.set_size(session, owner, upload_id, size_bytes, place.quota, max_bytes=place.max_bytes)
