from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from api.access import buckets
from api.access.buckets import Buckets, BucketsUnavailable, LocalBuckets, Rate, SharedBuckets, Taken

RATE = Rate(per_s=10, burst=5)


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine may be busy with other tests."""
    monkeypatch.setattr(buckets, "ANSWER_WITHIN_S", 20.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_a_key_may_send_a_burst_and_then_its_rate() -> None:
    clock = Clock()
    counting = LocalBuckets(RATE, clock)

    def take(number: int) -> Taken:
        return asyncio.run(counting.take({"ty_a": number}))["ty_a"]

    assert take(3) == Taken(3, 0)
    got = take(4)
    assert got.granted == 2
    assert got.next_after_s == pytest.approx(0.1)
    assert take(1).granted == 0
    clock.now += 0.1
    assert take(2).granted == 1
    clock.now += 60
    assert take(9).granted == 5, "what was not used in time is not added up"
    assert asyncio.run(counting.take({"ty_b": 5}))["ty_b"].granted == 5, "each key has its own"
    clock.now += 60
    asyncio.run(counting.take({"ty_b": 1}))
    assert set(counting._full_at) == {"ty_b"}, "what is full again is forgotten"


def with_shared(url: str, rate: Rate, work: Callable[[list[SharedBuckets]], Awaitable[None]]) -> None:
    """Do something as two processes that count in one server."""

    async def run() -> None:
        both = [SharedBuckets(url, rate) for _ in range(2)]
        try:
            await work(both)
        finally:
            for one in both:
                await one.close()

    asyncio.run(run())


@pytest.mark.usefixtures("patience")
def test_processes_that_share_a_server_share_the_rate(valkey_url: str) -> None:
    async def work(both: list[SharedBuckets]) -> None:
        first, second = both
        key = f"ty_{time.time_ns()}"
        assert (await first.take({key: 3, key + "x": 1}))[key] == Taken(3, 0)
        got = await second.take({key: 3, key + "x": 5})
        assert (got[key].granted, got[key + "x"].granted) == (2, 4)
        assert 3500 < got[key].next_after_s <= 3600
        assert (await first.take({key: 1}))[key].granted == 0

    with_shared(valkey_url, Rate(per_s=1 / 3600, burst=5), work)


@pytest.mark.usefixtures("patience")
def test_a_shared_bucket_fills_again_and_is_then_forgotten(valkey_url: str) -> None:
    async def work(both: list[SharedBuckets]) -> None:
        key = f"ty_{time.time_ns()}"
        assert (await both[0].take({key: 5}))[key].granted == 5
        assert await both[1]._client.pttl(f"trainyard:rate:{key}") <= 1000
        assert await both[1]._client.pttl(f"trainyard:rate:{key}") != -1, "it would stay for good"
        await asyncio.sleep(1.1)
        assert not await both[1]._client.exists(f"trainyard:rate:{key}")
        assert (await both[1].take({key: 9}))[key].granted == 5

    with_shared(valkey_url, Rate(per_s=5, burst=5), work)


@pytest.mark.usefixtures("patience")
def test_both_ways_of_counting_agree(valkey_url: str) -> None:
    """The script and the class, on the same questions, at rates that don't divide a second evenly."""
    rate = Rate(per_s=1 / 3600, burst=7)  # slow, so that no time passes between the questions

    async def work(both: list[SharedBuckets]) -> None:
        local, key = LocalBuckets(rate), f"ty_{time.time_ns()}"
        for wanted in (1, 3, 0, 9, 1):
            here, there = (await local.take({key: wanted}))[key], (await both[0].take({key: wanted}))[key]
            assert here.granted == there.granted
            assert there.next_after_s == pytest.approx(here.next_after_s, abs=2)

    with_shared(valkey_url, rate, work)


@pytest.mark.usefixtures("patience")
def test_many_that_ask_at_once_get_no_more_than_the_rate_together(valkey_url: str) -> None:
    rate = Rate(per_s=1 / 3600, burst=40)

    async def work(both: list[SharedBuckets]) -> None:
        key = f"ty_{time.time_ns()}"
        answers = await asyncio.gather(*(both[number % 2].take({key: 1}) for number in range(100)))
        assert sum(answer[key].granted for answer in answers) == 40

    with_shared(valkey_url, rate, work)


def test_a_server_that_does_not_answer_is_no_other_error() -> None:
    async def ask(counting: Buckets) -> None:
        try:
            await counting.take({"ty_a": 1})
        finally:
            await counting.close()

    for url in ("redis://127.0.0.1:1/0", "redis://no-such-host.invalid:6379/0"):
        with pytest.raises(BucketsUnavailable):
            asyncio.run(ask(SharedBuckets(url, RATE)))


def test_a_server_that_hangs_is_not_waited_for() -> None:
    asked = 0

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        while await reader.read(4096):
            pass
        writer.close()

    async def run() -> float:
        silent = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
        counting = SharedBuckets(f"redis://127.0.0.1:{silent.sockets[0].getsockname()[1]}/0", RATE)
        began = time.monotonic()
        with pytest.raises(BucketsUnavailable):
            await counting.take({"ty_a": 1})
        took = time.monotonic() - began
        await counting.close()
        silent.close()
        await silent.wait_closed()
        await asyncio.sleep(0.01)  # the server's side has seen the end of the connection
        return took

    assert asyncio.run(run()) < 10, "a quarter of a second, on a machine that does nothing else"
    assert asked == 1, "it is not tried again while a request waits"


def test_a_server_that_was_started_again_is_asked_again_at_once(valkey_url: str) -> None:
    """Its connections are broken, which shows with the next question."""

    async def run() -> None:
        counting = SharedBuckets(valkey_url, RATE)
        await counting.take({})
        [connection] = counting._client.connection_pool._available_connections
        assert connection._writer is not None
        connection._writer.transport.abort()
        assert (await counting.take({f"ty_{time.time_ns()}": 1})) != {}
        await counting.close()

    asyncio.run(run())
