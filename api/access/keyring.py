"""The API keys that requests were sent with, as the database had them a moment ago.

A key that is in use is read again in the background, so its requests wait for no database, and one that was revoked
ends within a second. A key that is not known here is looked up at once; so a new key works everywhere from the moment
at which it was made. All that is asked for while the database is read is read together afterwards, so strangers who try
keys cost one read at a time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread

from trainyard.access import keys
from trainyard.access.keys import USE_NOTED_EVERY_S, KeyRecord
from trainyard.access.yard_secret import read_yard_secret
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable, ServiceError

log = logging.getLogger(__name__)

REFRESH_S = 0.25  #: after which a key in use is read again, while its requests go on
STALE_S = 0.75  #: after which a request waits until its key was read again
OUTAGE_S = 60.0  #: for which a key that was known before goes on while the database does not answer
RETRY_S = 1.0  #: between two tries in the background during that time

T = TypeVar("T")


@dataclass
class _Known:
    record: KeyRecord
    read_at: float  #: before the database was asked, so never too late


class Keyring:
    """Belongs to the event loop of one process."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._clock = database, clock
        self._yard_secret: str | None = None
        self._known: dict[str, _Known] = {}
        self._asked: dict[str, asyncio.Future[KeyRecord | None]] = {}
        self._used: set[str] = set()  # since the last look at what is to be noted
        self._noted_at: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_reading = False
        self._outage: ServiceError | None = None  # how the last read failed
        self._retry_at = 0.0
        self._turn: anyio.CapacityLimiter | None = None  # not the threads of the routes, which may all be busy

    def find(self, prefix: str) -> KeyRecord | None:
        """Return a key that the database had a moment ago. None: `look_up` says whether there is one."""
        if (known := self._known.get(prefix)) is None:
            return None
        now = self._clock()
        age_s, is_out = now - known.read_at, self._outage is not None
        if age_s > REFRESH_S and (not is_out or now >= self._retry_at):
            self._ask(prefix)
        if age_s > (OUTAGE_S if is_out else STALE_S):
            return None
        self._used.add(prefix)
        return known.record

    async def look_up(self, prefix: str) -> KeyRecord | None:
        """Read a key from the database. None: there is none.

        Raises:
            DatabaseUnavailable: the database does not answer, and did not say within the last minute that there is one.
        """
        try:
            return await asyncio.shield(self._ask(prefix))
        except DatabaseUnavailable:
            if (record := self.find(prefix)) is None:
                raise
            return record

    async def read_yard_secret(self) -> str:
        """Return the secret of the yard's sessions.

        Raises:
            DatabaseUnavailable: the database does not answer.
        """
        if self._yard_secret is None:
            self._yard_secret = await self._in_thread(self._read_yard_secret)
        return self._yard_secret

    def forget(self, prefix: str) -> None:
        """Forget a key that was revoked here, at once."""
        self._known.pop(prefix, None)

    async def stop(self) -> None:
        """End what goes on in the background."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _ask(self, prefix: str) -> asyncio.Future[KeyRecord | None]:
        """Return what a read that begins after now will say."""
        if (answer := self._asked.get(prefix)) is None:
            answer = self._asked[prefix] = asyncio.get_running_loop().create_future()
        if not self._is_reading:
            self._is_reading = True
            self._begin(self._read_what_is_asked())
        return answer

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _read_what_is_asked(self) -> None:
        try:
            while self._asked:
                asked, self._asked = self._asked, {}
                began = self._clock()
                try:
                    found = await self._in_thread(partial(self._read, list(asked)))
                except ServiceError as exc:
                    self._outage, self._retry_at = exc, self._clock() + RETRY_S
                    _fail(asked.values(), exc)
                    continue
                except asyncio.CancelledError:
                    _fail(asked.values(), DatabaseUnavailable())
                    raise
                self._outage = None
                for prefix, answer in asked.items():
                    self._keep(prefix, found.get(prefix), began)
                    answer.set_result(found.get(prefix))
        finally:
            self._is_reading = False
        self._note_uses()

    def _keep(self, prefix: str, record: KeyRecord | None, read_at: float) -> None:
        if record is None:
            self._known.pop(prefix, None)
            self._noted_at.pop(prefix, None)
        else:
            self._known[prefix] = _Known(record, read_at)
            self._used.add(prefix)

    def _note_uses(self) -> None:
        now = self._clock()
        used, self._used = self._used, set()
        due = [one for one in used if now - self._noted_at.get(one, now - USE_NOTED_EVERY_S) >= USE_NOTED_EVERY_S]
        if due:
            self._noted_at.update(dict.fromkeys(due, now))
            self._begin(self._write_uses(due))

    async def _write_uses(self, prefixes: list[str]) -> None:
        try:
            await anyio.to_thread.run_sync(self._write, prefixes)
        except DatabaseUnavailable:
            log.debug("the use of keys can't be noted now")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._turn is None:
            self._turn = anyio.CapacityLimiter(1)
        try:
            return await anyio.to_thread.run_sync(work, limiter=self._turn)
        except ServiceError:
            raise
        except Exception as exc:
            log.exception("keys can't be read")
            raise ServiceError from exc

    def _read(self, prefixes: list[str]) -> dict[str, KeyRecord]:
        with self._database.reading() as session:
            return keys.find_keys(session, prefixes)

    def _write(self, prefixes: list[str]) -> None:
        with self._database.writing() as session:
            keys.note_uses(session, prefixes)

    def _read_yard_secret(self) -> str:
        with self._database.reading() as session:
            return read_yard_secret(session)


def _fail(answers: Iterable[asyncio.Future[KeyRecord | None]], exc: ServiceError) -> None:
    for answer in answers:
        if not answer.done():
            answer.set_exception(exc)
            answer.exception()  # seen, also where nobody waits
