"""The response that sends an archive, and releases its files however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import anyio
import anyio.to_thread
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send


class Sendable(Protocol):
    """A file, mostly a tar, that is made or read while it is sent."""

    @property
    def size_bytes(self) -> int | None:
        """The length of the file. None: it is not known before it is sent."""
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
    ) -> None:
        self._archive = archive
        own = {"Content-Disposition": f'attachment; filename="{name}"'}
        if archive.size_bytes is not None:
            own["Content-Length"] = str(archive.size_bytes)
        super().__init__(archive.pieces(), headers=own | (headers or {}), media_type=media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):  # it waits for threads and processes
                await anyio.to_thread.run_sync(self._archive.close)
