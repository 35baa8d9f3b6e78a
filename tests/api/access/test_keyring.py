"""Keys are looked up once, known for a moment, and gone within a second of their end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import pytest
from sqlalchemy.orm import Session

from api.access import keyring as keyring_module
from api.access.keyring import OUTAGE_S, REFRESH_S, RETRY_S, STALE_S, Keyring
from trainyard.access import keys
from trainyard.access.keys import KeyRecord, create_key, revoke_key
from trainyard.access.scopes import Scope
from trainyard.database.access_tables import ApiKey
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable, ServiceError


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Reads:
    """Counts what is asked of the database; may hold a read back, or let it fail."""

    def __init__(self) -> None:
        self.asked: list[set[str]] = []
        self.gate = threading.Event()
        self.gate.set()
        self.failure: Exception | None = None

    def __call__(self, session: Session, prefixes: Collection[str]) -> dict[str, KeyRecord]:
        self.asked.append(set(prefixes))
        found = keys.find_keys(session, prefixes) if self.failure is None else None
        assert self.gate.wait(10)
        if found is None:
            assert self.failure is not None
            raise self.failure
        return found


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    reads = Reads()

    class Module:
        find_keys = staticmethod(reads)
        note_uses = staticmethod(keys.note_uses)

    monkeypatch.setattr(keyring_module, "keys", Module)
    return reads


def add_key(database: Database, owner: str = "ada") -> tuple[str, str]:
    with database.writing() as session:
        row, _ = create_key(session, owner=owner, scopes=[Scope.READ])
        return row.id, row.prefix


def revoke(database: Database, key_id: str) -> None:
    with database.writing() as session:
        revoke_key(session, key_id)


def run(database: Database, clock: Clock, test: Callable[[Keyring], Awaitable[Any]]) -> None:
    async def begin() -> None:
        ring = Keyring(database, clock)
        try:
            await test(ring)
        finally:
            await ring.stop()

    asyncio.run(begin())


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.005)


def test_a_key_is_read_once_and_known_for_a_moment(database: Database, clock: Clock, reads: Reads) -> None:
    _, prefix = add_key(database)

    async def test(ring: Keyring) -> None:
        assert ring.find(prefix) is None
        record = await ring.look_up(prefix)
        assert record is not None
        assert record.owner == "ada"
        for _ in range(100):
            assert ring.find(prefix) == record
        assert reads.asked == [{prefix}]

    run(database, clock, test)


def test_a_key_in_use_is_read_again_in_the_background(database: Database, clock: Clock, reads: Reads) -> None:
    key_id, prefix = add_key(database)

    async def test(ring: Keyring) -> None:
        await ring.look_up(prefix)
        clock.now += REFRESH_S + 0.01
        assert ring.find(prefix) is not None, "nobody waits"
        await until(lambda: len(reads.asked) == 2)
        revoke(database, key_id)
        clock.now += REFRESH_S + 0.01
        ring.find(prefix)
        await until(lambda: ring.find(prefix) is None)

    run(database, clock, test)


def test_a_revoked_key_is_never_known_for_a_second(database: Database, clock: Clock, reads: Reads) -> None:
    """Also where the read that could say so does not end: then its requests wait."""
    key_id, prefix = add_key(database)

    async def test(ring: Keyring) -> None:
        await ring.look_up(prefix)
        revoke(database, key_id)
        reads.gate.clear()
        clock.now += STALE_S
        assert ring.find(prefix) is not None
        clock.now += 0.01
        assert ring.find(prefix) is None
        asked = asyncio.ensure_future(ring.look_up(prefix))
        await asyncio.sleep(0.05)
        assert not asked.done()
        reads.gate.set()
        assert await asked is None

    assert STALE_S < 1
    run(database, clock, test)


def test_what_was_read_before_a_key_s_end_counts_from_the_read_s_begin(
    database: Database, clock: Clock, reads: Reads
) -> None:
    key_id, prefix = add_key(database)

    async def test(ring: Keyring) -> None:
        reads.gate.clear()
        asked = asyncio.ensure_future(ring.look_up(prefix))
        await until(lambda: len(reads.asked) == 1)
        revoke(database, key_id)
        clock.now += STALE_S + 0.01  # so long does the read take
        reads.gate.set()
        assert await asked is not None, "it was asked for before its end"
        assert ring.find(prefix) is None, "but who asks now waits for a new read"
        assert await ring.look_up(prefix) is None

    run(database, clock, test)


def test_a_new_key_works_at_once(database: Database, clock: Clock) -> None:
    """Nobody remembers that there was no such key a moment ago."""

    async def test(ring: Keyring) -> None:
        assert await ring.look_up("ty_nothing") is None
        _, prefix = add_key(database)
        assert await ring.look_up(prefix) is not None

    run(database, clock, test)


def test_strangers_who_try_keys_cost_one_read_at_a_time(database: Database, clock: Clock, reads: Reads) -> None:
    async def test(ring: Keyring) -> None:
        reads.gate.clear()
        first = asyncio.ensure_future(ring.look_up("ty_0"))
        await until(lambda: len(reads.asked) == 1)
        others = [asyncio.ensure_future(ring.look_up(f"ty_{number}")) for number in range(1, 200)]
        await asyncio.sleep(0.05)
        assert len(reads.asked) == 1
        reads.gate.set()
        assert await asyncio.gather(first, *others) == [None] * 200
        assert [len(asked) for asked in reads.asked] == [1, 199]

    run(database, clock, test)


class TestOutage:
    def test_a_key_known_before_goes_on_for_a_minute(self, database: Database, clock: Clock, reads: Reads) -> None:
        _, prefix = add_key(database)

        async def test(ring: Keyring) -> None:
            await ring.look_up(prefix)
            reads.failure = DatabaseUnavailable()
            clock.now += STALE_S + 0.01
            assert await ring.look_up(prefix) is not None
            tries = len(reads.asked)
            for _ in range(50):
                assert ring.find(prefix) is not None
            await asyncio.sleep(0.05)
            assert len(reads.asked) == tries, "it is not tried with every request"
            clock.now += RETRY_S
            ring.find(prefix)
            await until(lambda: len(reads.asked) == tries + 1)
            with pytest.raises(DatabaseUnavailable):
                await ring.look_up("ty_unknown")
            clock.now += OUTAGE_S
            assert ring.find(prefix) is None
            with pytest.raises(DatabaseUnavailable):
                await ring.look_up(prefix)

        run(database, clock, test)

    def test_the_first_read_after_it_counts(self, database: Database, clock: Clock, reads: Reads) -> None:
        key_id, prefix = add_key(database)

        async def test(ring: Keyring) -> None:
            await ring.look_up(prefix)
            reads.failure = DatabaseUnavailable()
            clock.now += STALE_S + 0.01
            await ring.look_up(prefix)
            reads.failure = None
            revoke(database, key_id)
            assert ring.find(prefix) is not None
            clock.now += RETRY_S
            ring.find(prefix)
            await until(lambda: ring.find(prefix) is None)

        run(database, clock, test)

    def test_a_failure_that_nobody_expected_is_an_error_and_not_a_way_in(
        self, database: Database, clock: Clock, reads: Reads
    ) -> None:
        async def test(ring: Keyring) -> None:
            reads.failure = RuntimeError("a bug")
            with pytest.raises(ServiceError) as caught:
                await ring.look_up("ty_unknown")
            assert caught.value.status == 500

        run(database, clock, test)


def test_the_last_use_is_noted(database: Database, clock: Clock) -> None:
    key_id, prefix = add_key(database)

    def last_used_at() -> float | None:
        with database.reading() as session:
            return session.get_one(ApiKey, key_id).last_used_at

    async def test(ring: Keyring) -> None:
        await ring.look_up(prefix)
        await until(lambda: last_used_at() is not None)

    run(database, clock, test)
