"""Lets the newest request for an upload write to it.

A client whose line was cut comes back with a new connection, while the old one still waits for bytes that never come.
So a request that wants to write, or to know where to go on, ends the one before it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from trainyard.upload_errors import UploadLocked

WAIT_S = 10.0  #: for the one before to save what has come


@dataclass(eq=False)
class _Turn:
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class UploadTurns:
    """The requests of this process that write to uploads. It belongs to the process's event loop."""

    def __init__(self) -> None:
        self._turns: dict[str, _Turn] = {}

    @asynccontextmanager
    async def taking(self, upload_id: str) -> AsyncIterator[None]:
        """Write to an upload inside the block, after the request before has ended.

        Raises:
            UploadLocked: the one before does not end, or another request came and ended the block.
        """
        await self.interrupt(upload_id)
        turn = self._turns[upload_id] = _Turn()
        try:
            with turn.scope:
                yield
        finally:
            del self._turns[upload_id]
            turn.ended.set()
        if turn.scope.cancelled_caught:
            raise UploadLocked("another request for this upload came, so this one has ended", retry_after_s=1)

    async def interrupt(self, upload_id: str) -> None:
        """End the request that writes to an upload, if there is one, and wait until what came is saved.

        Raises:
            UploadLocked: it does not end.
        """
        with anyio.move_on_after(WAIT_S):
            while (turn := self._turns.get(upload_id)) is not None:
                turn.scope.cancel()
                await turn.ended.wait()
            return
        raise UploadLocked(retry_after_s=1)
