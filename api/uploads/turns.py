"""Whose turn it is to write to an upload.

A client whose line was cut comes back with a new connection, while the old one still waits for bytes that never come.
So a request that wants to write, or to know where to go on, ends the one before it, if that one gets no bytes. While
bytes come, another client is at work: that one is left alone, and the newcomer is told that the upload is locked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio

from trainyard.upload_errors import UploadLocked

QUIET_S = 2.0  #: without a byte, after which a request is taken for one whose line was cut
WAIT_S = 10.0  #: for the one before to save what has come
_LOOK_S = 0.05  # between two looks whether the one before still gets bytes


@dataclass(eq=False)
class Turn:
    """One request that writes to an upload."""

    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)
    waits_since: float | None = None  #: for bytes of its client, by the event loop's clock; None: it does not wait

    async def watch(self, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the pieces of the request's body, and note since when it waits for the next one."""
        self.waits_since = anyio.current_time()
        async for piece in body:
            self.waits_since = None
            yield piece
            self.waits_since = anyio.current_time()
        self.waits_since = None

    def is_quiet(self, quiet_s: float) -> bool:
        """Whether nothing has come for so long. A request that writes what has come is not quiet."""
        return self.waits_since is not None and anyio.current_time() - self.waits_since >= quiet_s

    async def end(self) -> None:
        """End the request, and wait until what came is saved.

        Raises:
            UploadLocked: it does not end.
        """
        self.scope.cancel()
        with anyio.move_on_after(WAIT_S):
            await self.ended.wait()
            return
        raise UploadLocked(retry_after_s=1)


class UploadTurns:
    """The requests of this process that write to uploads. It belongs to the process's event loop."""

    def __init__(self, *, quiet_s: float = QUIET_S) -> None:
        self._turns: dict[str, Turn] = {}
        self._quiet_s = quiet_s

    @asynccontextmanager
    async def taking(self, upload_id: str) -> AsyncIterator[Turn]:
        """Write to an upload inside the block, after the request before has ended.

        Raises:
            UploadLocked: the one before does not end, or another request came and ended the block.
        """
        await self.replace(upload_id)
        turn = self._turns[upload_id] = Turn()
        try:
            with turn.scope:
                yield turn
        finally:
            del self._turns[upload_id]
            turn.ended.set()
        if turn.scope.cancelled_caught:
            raise UploadLocked("another request for this upload came, so this one has ended", retry_after_s=1)

    async def replace(self, upload_id: str) -> None:
        """Wait until nobody writes to an upload. A request that gets no bytes is ended.

        Raises:
            UploadLocked: a request still gets bytes, or does not end.
        """
        until = anyio.current_time() + self._quiet_s + 2 * _LOOK_S  # one whose line was cut is quiet by then
        while (turn := self._turns.get(upload_id)) is not None:
            if turn.is_quiet(self._quiet_s):
                await turn.end()
            elif anyio.current_time() >= until:
                raise still_written()
            else:
                await anyio.sleep(_LOOK_S)

    async def interrupt(self, upload_id: str) -> None:
        """End the request that writes to an upload, if there is one, and wait until what came is saved.

        Raises:
            UploadLocked: it does not end.
        """
        while (turn := self._turns.get(upload_id)) is not None:
            await turn.end()


def still_written() -> UploadLocked:
    """Return the refusal of a request for an upload to which another one writes."""
    return UploadLocked(
        "another request writes to this upload: wait until it has ended, or begin an upload of your own",
        retry_after_s=1,
    )
