"""The requests of other processes of this machine that write to uploads. `turns` has those of this process.

The rules are the same. Nothing is sent from one process to another: who writes to an upload holds the kernel's lock of
its folder, and who waits for it holds one of its file, for which the writer looks while its own client sends nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from api.uploads.turns import QUIET_S, Turn, still_written
from api.uploads.writing import UploadWriter
from trainyard.artifacts.upload_files import UploadFolder

_LOOK_S = 0.05  # between two looks whether the upload is free
_ASKED_S = 0.25  # between two looks of a writer whether somebody waits
_END_S = 1.0  # for a writer to look, to save what has come, and to end


class OtherProcesses:
    """What this process sees of the others, and lets them see. It belongs to the process's event loop."""

    def __init__(self, folder: UploadFolder, limiter: anyio.CapacityLimiter, *, quiet_s: float = QUIET_S) -> None:
        """Make it for the uploads in a folder, which is looked at in threads of this limiter."""
        self._folder, self._limiter, self._quiet_s = folder, limiter, quiet_s

    async def replace(self, upload_id: str) -> None:
        """Wait until no other process writes to an upload. A request there that gets no bytes is ended by its process.

        Raises:
            UploadLocked: a request still gets bytes, or has not ended yet.
        """
        if not await self._is_written(upload_id):
            return
        until = anyio.current_time() + self._quiet_s + _END_S
        with self._folder.waiting(upload_id) as place:
            while await self._is_written(upload_id):
                if anyio.current_time() >= until:
                    raise still_written()
                place.take()
                await anyio.sleep(_LOOK_S)

    async def _is_written(self, upload_id: str) -> bool:
        return await anyio.to_thread.run_sync(self._folder.is_written, upload_id, limiter=self._limiter)

    @asynccontextmanager
    async def seen_by(self, turn: Turn, writer: UploadWriter) -> AsyncIterator[None]:
        """End a turn of this process inside the block if it gets no bytes while another process waits for it."""

        async def look() -> None:
            while not (turn.is_quiet(self._quiet_s) and writer.is_awaited()):
                await asyncio.sleep(_ASKED_S)
            turn.scope.cancel()

        looking = asyncio.create_task(look())
        try:
            yield
        finally:
            looking.cancel()
