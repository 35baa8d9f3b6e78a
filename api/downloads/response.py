"""The response that sends an archive, or a range of its bytes, and releases its files however it ends."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Protocol

import anyio
import anyio.to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.downloads.ranges import RangeRequest, cut_out
from trainyard.errors import BeyondTheEnd


class Sendable(Protocol):
    """A file, mostly a tar, that is made or read while it is sent."""

    @property
    def size_bytes(self) -> int | None:
        """The length of the file. None: it is not known before it is sent."""
        ...

    @property
    def etag(self) -> str | None:
        """Stands for exactly these bytes, in quotes. None: they may be others next time, so no range is sent."""
        ...

    @property
    def sha256(self) -> bytes | None:
        """Of the whole file. None: it is not known before it is sent."""
        ...

    def pieces(self) -> Iterator[bytes]:
        """Yield the file's bytes; can be called once."""
        ...

    def close(self) -> None:
        """Release the files; harmless a second time."""
        ...


class ArchiveResponse(StreamingResponse):
    """Sends an archive. Its files are closed even if the client leaves, or wants only the headers (HEAD)."""

    def __init__(
        self,
        archive: Sendable,
        name: str,
        headers: dict[str, str] | None = None,
        *,
        media_type: str = "application/x-tar",
        ranges: RangeRequest = RangeRequest(),  # noqa: B008 - it can't be changed
    ) -> None:
        """Prepare the response.

        Args:
            archive: closed at the end, or if this fails.
            name: of the file.
            headers: in addition.
            media_type: of the file.
            ranges: which bytes of it are wanted.

        Raises:
            BeyondTheEnd: it has fewer bytes.
        """
        self._archive = archive
        own = {"Content-Disposition": f'attachment; filename="{name}"', "Accept-Ranges": "none"}
        pieces, status, size, etag = archive.pieces(), 200, archive.size_bytes, archive.etag
        if size is not None:
            own["Content-Length"] = str(size)
        if size is not None and etag is not None:
            own |= {"Accept-Ranges": "bytes", "ETag": etag}
            try:
                wanted = ranges.find(size, etag)
            except BeyondTheEnd:
                archive.close()
                raise
            if wanted is not None:
                pieces, status = cut_out(pieces, wanted), 206
                own["Content-Range"] = f"bytes {wanted.start}-{wanted.stop - 1}/{size}"
                own["Content-Length"] = str(len(wanted))
        if archive.sha256 is not None:
            own["Repr-Digest"] = f"sha-256=:{base64.b64encode(archive.sha256).decode()}:"
        super().__init__(pieces, status, headers=own | (headers or {}), media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):  # it waits for threads and processes
                await anyio.to_thread.run_sync(self._archive.close)
