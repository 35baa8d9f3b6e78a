"""Live events for any number of watchers with one reader, which queries the database once in each tick.

A watcher is only a position in its job's log. What a tick finds is kept in one short buffer for each job, which all its
watchers share. A watcher that is behind the buffer, new or slow, reads pages from the database until it has caught up.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from starlette.types import Message, Receive, Scope, Send

from api.schemas.events import read_event
from api.streams.waiting import within
from api.streams.yard_feed import YardFeed
from trainyard.database.connection import Database
from trainyard.database.tables import JobEvent
from trainyard.errors import DatabaseUnavailable, TooManyStreams
from trainyard.jobs.event_log import Head, list_events, list_new_events, read_heads

log = logging.getLogger(__name__)

TICK_S = 0.5
HEARTBEAT_S = 15.0
SEND_WITHIN_S = 15.0  # a client that takes nothing for so long is dropped
FULL_RETRY_S = 5  # when all places are taken
BUFFERED = 256  # events a job
PAGE = 100  # events that a watcher who is behind reads at a time

Frame = tuple[int, bytes]
Found = TypeVar("Found")


@dataclass(eq=False)
class _Channel:
    """One watched job. `frames` are all its events after `floor` up to `head.seq`."""

    head: Head
    floor: int = field(init=False)
    frames: deque[Frame] = field(default_factory=deque)
    watchers: int = 0
    is_gone: bool = False  #: the job was deleted
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.floor = self.head.seq

    def grow(self, head: Head, frames: list[Frame]) -> None:
        self.head = head
        self.frames.extend(frames)
        while len(self.frames) > BUFFERED:
            self.floor = self.frames.popleft()[0]
        self.wake()

    def skip_to(self, head: Head) -> None:
        """Drop the buffer, because more is new than it holds: all watchers read this from the database."""
        self.frames.clear()
        self.head, self.floor = head, head.seq
        self.wake()

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class EventHub:
    """All event streams of this process. It runs on the event loop, except for the queries."""

    def __init__(
        self, database: Database, is_draining: Callable[[], bool], *, max_streams: int, tick_s: float = TICK_S,
        heartbeat_s: float = HEARTBEAT_S, feed: YardFeed | None = None,
    ) -> None:  # fmt: skip
        self._feed = feed
        self._database, self._is_draining = database, is_draining
        self._max_streams, self._num_streams = max_streams, 0
        self._tick_s, self._heartbeat_s = tick_s, heartbeat_s
        self._channels: dict[str, _Channel] = {}
        self._poller: asyncio.Task[None] | None = None
        self._poll_turn, self._page_turns = anyio.CapacityLimiter(1), anyio.CapacityLimiter(4)

    @property
    def heartbeat_s(self) -> float:
        """Seconds without anything to send, after which a stream sends something, so that no proxy cuts it."""
        return self._heartbeat_s

    @property
    def num_watchers(self) -> int:
        """The number of streams that wait for events, or read what they have missed."""
        of_jobs = sum(channel.watchers for channel in self._channels.values())
        return of_jobs + (self._feed.num_watchers if self._feed is not None else 0)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take one of the places for open streams.

        Raises:
            TooManyStreams: all are.
        """
        if self._num_streams >= self._max_streams:
            raise TooManyStreams(retry_after_s=FULL_RETRY_S)
        self._num_streams += 1
        try:
            yield
        finally:
            self._num_streams -= 1

    async def follow(self, job_id: str, after: int, head: Head) -> AsyncGenerator[bytes, None]:
        """Yield a job's events after a number as server-sent events.

        It ends after the last event, when the job is removed, or when this process drains.

        Args:
            job_id: a job that the watcher may see.
            after: number of the last event that it knows; 0: none.
            head: the job's log as it was just read.
        """
        channel = self._join(job_id, head)
        try:
            while not self._is_over(channel, after):
                changed = channel.changed
                frames = await self._next_frames(job_id, channel, after)
                for seq, frame in frames:
                    yield frame
                    after = seq
                if not frames and not await within(self._heartbeat_s, changed):
                    yield KEEPALIVE_COMMENT
        except DatabaseUnavailable:
            log.warning("the database does not answer; a stream ends early", extra={"job_id": job_id})
        finally:
            self._leave(job_id, channel)

    def _is_over(self, channel: _Channel, after: int) -> bool:
        return self._is_draining() or channel.is_gone or (channel.head.is_final and after >= channel.head.seq)

    async def _next_frames(self, job_id: str, channel: _Channel, after: int) -> list[Frame]:
        if after >= channel.floor:
            return [frame for frame in channel.frames if frame[0] > after]
        return await anyio.to_thread.run_sync(self._read_page, job_id, after, limiter=self._page_turns)

    def _read_page(self, job_id: str, after: int) -> list[Frame]:
        with self._database.reading() as session:
            return [_frame_of(event) for event in list_events(session, job_id, after=after, limit=PAGE).items]

    def _join(self, job_id: str, head: Head) -> _Channel:
        channel = self._channels.get(job_id)
        if channel is None:
            channel = self._channels[job_id] = _Channel(head)
        channel.watchers += 1
        self._keep_polling()
        return channel

    def _leave(self, job_id: str, channel: _Channel) -> None:
        channel.watchers -= 1
        if channel.watchers == 0 and self._channels.get(job_id) is channel:
            del self._channels[job_id]

    def _keep_polling(self) -> None:
        if self._poller is None or self._poller.done():
            self._poller = asyncio.create_task(self._poll())

    @asynccontextmanager
    async def watching_yard(self, owner: str, after: int | None) -> AsyncGenerator[AsyncGenerator[bytes, None], None]:
        """Watch the yard for an owner: inside, the events after a number are there as `YardFeed.follow` yields them.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        assert self._feed is not None
        channel = await self._feed.join(owner)
        try:
            self._keep_polling()
            yield self._feed.follow(owner, channel, after)
        finally:
            self._feed.leave(owner, channel)

    async def _poll(self) -> None:
        while (self._channels or (self._feed is not None and self._feed.is_watched)) and not self._is_draining():
            try:
                known = {job_id: channel.head.seq for job_id, channel in self._channels.items()}
                news = await self._in_turn(partial(self._look, known))
                self._publish(known, *news)
                if self._feed is not None and (look := await self._in_turn(self._feed.look)) is not None:
                    self._feed.publish(look)
            except DatabaseUnavailable:
                log.warning("the database does not answer; %d streams wait", self.num_watchers)
            except Exception:
                log.exception("the streams could not be served")
            await asyncio.sleep(self._tick_s)
        for channel in self._channels.values():
            channel.wake()  # we drain: each sees that it is over
        if self._feed is not None:
            self._feed.wake_all()

    async def _in_turn(self, look: Callable[[], Found]) -> Found:
        return await anyio.to_thread.run_sync(look, limiter=self._poll_turn)

    def _look(self, known: dict[str, int]) -> tuple[dict[str, Head], dict[str, list[Frame]]]:
        with self._database.reading() as session:
            heads = read_heads(session, known)
            few = {job_id: known[job_id] for job_id, head in heads.items() if 0 < head.seq - known[job_id] <= BUFFERED}
            events = list_new_events(session, few) if few else {}
        return heads, {job_id: [_frame_of(event) for event in some] for job_id, some in events.items() if some}

    def _publish(self, known: dict[str, int], heads: dict[str, Head], frames: dict[str, list[Frame]]) -> None:
        for job_id, seq in known.items():
            channel, head = self._channels.get(job_id), heads.get(job_id)
            if channel is None or channel.head.seq != seq:
                continue  # it was left, and joined again, while we looked
            if head is None:
                channel.is_gone = True
                channel.wake()
                self._channels.pop(job_id)
            elif head.seq == seq and head.is_final == channel.head.is_final:
                continue
            elif job_id in frames:
                newest = frames[job_id][-1][0]  # on PostgreSQL the second query may see more than the first
                channel.grow(Head(newest, head.is_final and newest == head.seq), frames[job_id])
            elif head.seq >= seq:
                channel.skip_to(head)


def _frame_of(event: JobEvent) -> Frame:
    read = read_event(event)
    return event.seq, format_sse_event(data_str=read.model_dump_json(), event=read.type, id=read.id)


class _Stream(EventSourceResponse):
    """A stream of events to one client. A client that stops reading is disconnected."""

    def __init__(self, hub: EventHub, frames: AsyncIterable[bytes]) -> None:
        super().__init__(frames, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self._hub = hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette. The place is taken here, not in the route, because only what has begun is sure to free it."""
        with self._hub.place():
            await self._send_all(scope, receive, send)

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)

    async def stream_response(self, send: Send) -> None:
        """See Starlette."""

        async def send_soon(message: Message) -> None:
            with anyio.fail_after(SEND_WITHIN_S):
                await send(message)

        try:
            await super().stream_response(send_soon)
        except TimeoutError:
            log.info("a client no longer reads events: disconnected")


class EventStream(_Stream):
    """The stream of a job's events."""

    def __init__(self, hub: EventHub, job_id: str, after: int, head: Head) -> None:
        super().__init__(hub, hub.follow(job_id, after, head))


class YardStream(_Stream):
    """The stream of the yard's events for one owner. It is watched before the first header is sent."""

    def __init__(self, hub: EventHub, owner: str, after: int | None) -> None:
        super().__init__(hub, _nothing())
        self._owner, self._after = owner, after

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with self._hub.watching_yard(self._owner, self._after) as self.body_iterator:
            await super()._send_all(scope, receive, send)


async def _nothing() -> AsyncGenerator[bytes, None]:
    return
    yield b""
