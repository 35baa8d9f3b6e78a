"""The yard's events for any number of watchers, found by the one reader of all streams (`event_stream`).

A watcher is a position in the yard's log. What a look finds for an owner is kept in a short buffer that all watchers of
this owner share; it is built once. A watcher that is behind the buffer, new or slow, reads pages from the database.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import takewhile
from typing import TypeVar

import anyio
import anyio.to_thread
from sqlalchemy.orm import Session

from api.schemas.yard_events import ResetRead, TickRead
from api.streams.waiting import within
from api.streams.yard_views import Frame, Memory, YardViews, format_event
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable
from trainyard.jobs.yard_log import list_entries, read_extent

Found = TypeVar("Found")

log = logging.getLogger(__name__)

TICK_S = 5.0
UNNUMBERED_S = 1.0  # a job's progress is told at most once in so long
BUFFERED = 2048  # events an owner
PAGE = 100  # entries that a watcher who is behind reads at a time
MOST_BEHIND = 1000  # entries that are sent to one who comes back; to read all anew costs less than more


@dataclass(frozen=True)
class _Item:
    """An event in a buffer."""

    place: int  #: over all events of this buffer, from 0
    frame: Frame


@dataclass(eq=False)
class _Channel:
    """One watched owner. `items` are all numbered events after `floor` up to `head`, and the unnumbered in between."""

    head: int
    known: Memory
    floor: int = field(init=False)
    items: deque[_Item] = field(default_factory=deque)
    next_place: int = 0
    watchers: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.floor = self.head

    def grow(self, frames: list[Frame]) -> None:
        for frame in frames:
            self.items.append(_Item(self.next_place, frame))
            self.next_place += 1
        while len(self.items) > BUFFERED:
            self.floor = self.items.popleft().frame.number or self.floor

    def since(self, place: int) -> list[_Item]:
        """Return the newest items, from a place on."""
        newest = list(takewhile(lambda item: item.place >= place, reversed(self.items)))
        return newest[::-1]

    def wake(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


@dataclass(frozen=True)
class _Found:
    """What a look at the database found for the watchers of an owner."""

    channel: _Channel
    frames: list[Frame]
    known: Memory
    skips: bool = False  #: more is new than a buffer should hold: they read it from the database


@dataclass(frozen=True)
class Look:
    """What a look found, by owner, up to a number."""

    head: int
    found: dict[str, _Found]


class YardFeed:
    """The watchers of the yard in this process. It runs on the event loop, except for the queries."""

    def __init__(self, database: Database, views: YardViews, is_draining: Callable[[], bool]) -> None:
        self._database, self._views, self._is_draining = database, views, is_draining
        self._channels: dict[str, _Channel] = {}
        self._opening: dict[str, asyncio.Lock] = {}
        self._unnumbered_at = 0.0
        self._page_turns = anyio.CapacityLimiter(4)
        self.tick_s, self.unnumbered_s = TICK_S, UNNUMBERED_S

    @property
    def num_watchers(self) -> int:
        """The number of streams."""
        return sum(channel.watchers for channel in self._channels.values())

    @property
    def is_watched(self) -> bool:
        """Whether somebody watches."""
        return bool(self._channels)

    async def join(self, owner: str) -> _Channel:
        """Begin to watch. What changes from now on is sent, so a client that reads all afterwards misses nothing.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        async with self._opening.setdefault(owner, asyncio.Lock()):
            channel = self._channels.get(owner)
            if channel is None:
                channel = _Channel(*await self._in_thread(partial(self._begin, owner)))
                self._channels[owner] = channel
            channel.watchers += 1
            return channel

    def leave(self, owner: str, channel: _Channel) -> None:
        """End to watch."""
        channel.watchers -= 1
        if channel.watchers == 0 and self._channels.get(owner) is channel:
            del self._channels[owner]
            self._opening.pop(owner, None)

    def _begin(self, owner: str) -> tuple[int, Memory]:
        with self._database.reading() as session:
            head = read_extent(session).complete
            return head, self._views.unnumbered(session, owner, {})[1]

    async def follow(self, owner: str, channel: _Channel, after: int | None) -> AsyncGenerator[bytes, None]:
        """Yield an owner's events after a number, until this process drains.

        It begins with a `tick`, whose number lets a client go on from there, and `reset` if events were missed.

        Args:
            owner: whose.
            channel: what `join` returned.
            after: number of the last event that is known; None: what happens from now on is wanted.
        """
        known = channel.head if after is None else after
        place, next_tick = 0, 0.0
        joined_at = channel.next_place  # no unnumbered event from before is sent
        try:
            if after is not None and not await self._in_thread(partial(self._can_go_on, owner, after, channel.head)):
                known = channel.head
                yield format_event("reset", ResetRead(number=known).model_dump_json().encode(), number=known)
            while not self._is_draining():
                if (moment := time.monotonic()) >= next_tick:
                    next_tick = moment + self.tick_s
                    yield format_event("tick", _tick(), number=known)
                changed = channel.changed
                if known < channel.floor:
                    frames, known = await self._in_thread(partial(self._read_page, owner, known, channel.head))
                else:
                    frames = [it.frame for it in channel.since(place) if _is_new(it, known, joined_at)]
                    place, known = channel.next_place, max(known, channel.head)
                for frame in frames:
                    yield frame.content
                if not frames and known >= channel.floor:
                    await within(max(0.0, next_tick - time.monotonic()), changed)
        except DatabaseUnavailable:
            log.warning("the database does not answer; a stream of the yard ends early", extra={"owner": owner})

    async def _in_thread(self, read: Callable[[], Found]) -> Found:
        return await anyio.to_thread.run_sync(read, limiter=self._page_turns)

    def _can_go_on(self, owner: str, after: int, head: int) -> bool:
        with self._database.reading() as session:
            missed = list_entries(session, after=after, upto=head, limit=MOST_BEHIND + 1, owner=owner)
            return len(missed) <= MOST_BEHIND and read_extent(session).has(after)

    def _read_page(self, owner: str, after: int, upto: int) -> tuple[list[Frame], int]:
        with self._database.reading() as session:
            entries = list_entries(session, after=after, upto=upto, limit=PAGE, owner=owner)
            frames = self._views.numbered(session, owner, entries)
        return frames, entries[-1].number if len(entries) == PAGE else upto

    def look(self) -> Look | None:
        """Look for what is new: a thread calls it, not the event loop. None: nobody watches."""
        channels = dict(self._channels)
        if not channels:
            return None
        with self._database.reading() as session:
            return self._look(session, channels)

    def _look(self, session: Session, channels: dict[str, _Channel]) -> Look:
        last = min(channel.head for channel in channels.values())
        head = max(last, read_extent(session).complete)
        entries = list_entries(session, after=last, upto=head, limit=BUFFERED + 1) if head > last else ()
        is_due = time.monotonic() - self._unnumbered_at >= self.unnumbered_s
        found = {}
        for owner, channel in channels.items():
            if len(entries) > BUFFERED:
                found[owner] = _Found(channel, [], channel.known, skips=True)
                continue
            told = [entry for entry in entries if entry.number > channel.head and entry.owner in {owner, None}]
            frames, known = self._views.numbered(session, owner, told) if told else [], channel.known
            if is_due:
                changed, known = self._views.unnumbered(session, owner, channel.known)
                frames += changed
            found[owner] = _Found(channel, frames, known)
        if is_due:
            self._unnumbered_at = time.monotonic()
        return Look(head, found)

    def publish(self, look: Look) -> None:
        """Hand what a look found to the watchers."""
        for owner, found in look.found.items():
            channel = found.channel
            if self._channels.get(owner) is not channel:
                continue  # it was left while we looked
            channel.grow(found.frames)
            channel.head, channel.known = look.head, found.known
            if found.skips:
                channel.items.clear()
                channel.floor = look.head
            if found.frames or found.skips:
                channel.wake()

    def wake_all(self) -> None:
        """Wake all watchers, so that each sees that this process drains."""
        for channel in self._channels.values():
            channel.wake()


def _is_new(item: _Item, known: int, joined_at: int) -> bool:
    number = item.frame.number
    return item.place >= joined_at if number is None else number > known


def _tick() -> bytes:
    return TickRead.model_validate({"at": time.time()}).model_dump_json().encode()
