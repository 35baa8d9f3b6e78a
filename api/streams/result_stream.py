"""Streams a prediction's results as they are stored, until it has ended: to one client, as NDJSON.

The rows of a segment are sent once it is stored. The prediction's events say when there are more. While there are none
a space is sent from time to time, so that no proxy cuts the connection: a line of JSON may begin with spaces.
"""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing

import anyio
import anyio.to_thread
from starlette.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from api.downloads.stored_results import list_segments, read_rows
from api.streams.event_stream import EventHub
from trainyard.database.connection import Database
from trainyard.database.prediction_tables import PredictionSegment
from trainyard.database.tables import Job
from trainyard.jobs.event_log import Head
from trainyard.storage.interface import Storage

log = logging.getLogger(__name__)

KEEP_ALIVE = b" "
SEND_WITHIN_S = 60.0  # a client that takes nothing for so long is dropped


class ResultsCutOff(Exception):
    """The results end before their end: the process drains, or the database or the store can't be read."""


class ResultStream(StreamingResponse):
    """The rows of a prediction from one on. Its connection is cut if it can't go on to the end."""

    def __init__(self, hub: EventHub, database: Database, storage: Storage, work: Job, from_row: int) -> None:
        self._hub, self._database, self._storage = hub, database, storage
        self._work_id, self._head, self._next_row = work.id, Head.of(work), from_row
        headers = {"Cache-Control": "no-cache, private", "X-Accel-Buffering": "no"}
        self._rows = self._follow()
        super().__init__(self._rows, headers=headers, media_type="application/x-ndjson")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette. The place is taken here, not in the route, because only what has begun is sure to free it."""
        with self._hub.place():
            await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """See Starlette."""

        async def send_soon(message: Message) -> None:
            with anyio.fail_after(SEND_WITHIN_S):
                await send(message)

        try:
            await super().stream_response(send_soon)
        except TimeoutError:
            log.info("a client no longer reads results: disconnected")
            raise ResultsCutOff from None
        finally:
            with anyio.CancelScope(shield=True):
                await self._rows.aclose()

    async def _follow(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._read_stored()) as pieces:
            async for piece in pieces:
                yield piece
        async with aclosing(self._hub.follow(self._work_id, self._head.seq, self._head)) as events:
            sent_at = time.monotonic()
            async for _ in events:
                async with aclosing(self._read_stored()) as pieces:
                    async for piece in pieces:
                        yield piece
                        sent_at = time.monotonic()
                if time.monotonic() - sent_at >= self._hub.heartbeat_s:
                    yield KEEP_ALIVE
                    sent_at = time.monotonic()
        if not await anyio.to_thread.run_sync(self._has_ended):
            raise ResultsCutOff(f"{self._work_id} has not ended")

    async def _read_stored(self) -> AsyncGenerator[bytes, None]:
        """Yield all rows that are stored and were not sent."""
        while segments := await anyio.to_thread.run_sync(list_segments, self._database, self._work_id, self._next_row):
            for segment in segments:
                async with aclosing(self._read_segment(segment)) as pieces:
                    async for piece in pieces:
                        yield piece
                self._next_row = segment.first_row + segment.num_rows

    async def _read_segment(self, segment: PredictionSegment) -> AsyncGenerator[bytes, None]:
        rows = read_rows(self._storage, segment, max(self._next_row, segment.first_row))
        try:
            while piece := await anyio.to_thread.run_sync(_next_piece, rows):
                yield piece
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(rows.close)

    def _has_ended(self) -> bool:
        with self._database.reading() as session:
            work = session.get(Job, self._work_id)
            return work is not None and work.state.is_final


def _next_piece(rows: Iterator[bytes]) -> bytes | None:
    return next(rows, None)
