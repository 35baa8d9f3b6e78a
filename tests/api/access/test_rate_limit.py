"""How many requests a key may send: refused with what to do, over several processes, and never because of an outage."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from api.access import buckets
from api.access.buckets import Buckets, BucketsUnavailable, LocalBuckets, Rate, SharedBuckets, Taken
from api.access.identity import ADMINISTRATOR, STRANGER, Identity
from api.access.rate_limit import RateLimiter, build_rate_limiter
from tests.api.keyed import ADMIN_KEY, WITH_KEYS, add_key, client_for, client_of
from tests.api.served import Served, error_of, png, wait_until
from trainyard.access.scopes import ALL_SCOPES
from trainyard.settings import Settings

Serve = Callable[..., Served]
ADA, BEN = (Identity(name, ALL_SCOPES, f"ty_{name}") for name in ("ada", "ben"))
SLOW: dict[str, Any] = {"max_requests_per_s": 0.01, "max_request_burst": 5}


class Scripted:
    """Buckets that answer when they are told to."""

    def __init__(self, *, granted: int = 1000, next_after_s: float = 0.0) -> None:
        self.granted, self.next_after_s = granted, next_after_s
        self.asked: list[dict[str, int]] = []
        self.is_out = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def take(self, wanted: Mapping[str, int]) -> dict[str, Taken]:
        self.asked.append(dict(wanted))
        await self.may_answer.wait()
        if self.is_out:
            raise BucketsUnavailable("away")
        return {key: Taken(min(number, self.granted), self.next_after_s) for key, number in wanted.items()}

    async def close(self) -> None:
        pass


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def limiter_of(counting: Buckets, clock: Clock | None = None) -> RateLimiter:
    return RateLimiter(counting, Rate(10, 5), clock or Clock())


def test_requests_that_come_during_a_question_are_asked_together_after_it() -> None:
    async def run() -> list[dict[str, int]]:
        counting = Scripted()
        limiter = limiter_of(counting)
        counting.may_answer.clear()
        asking = [asyncio.create_task(limiter.admit(identity)) for identity in (ADA, ADA, BEN, ADMINISTRATOR)]
        await asyncio.sleep(0)
        asking += [asyncio.create_task(limiter.admit(ADA)) for _ in range(50)]
        await asyncio.sleep(0)
        counting.may_answer.set()
        assert set(await asyncio.gather(*asking)) == {None}
        return counting.asked

    first, *more = asyncio.run(run())
    assert first == {"ty_ada": 2, "ty_ben": 1, "settings": 1}
    assert more == [{"ty_ada": 50}]


def test_who_was_refused_is_refused_from_memory_until_it_may_send_again() -> None:
    async def run() -> None:
        clock, counting = Clock(), Scripted(granted=1, next_after_s=2.5)
        limiter = limiter_of(counting, clock)
        first, second = await asyncio.gather(limiter.admit(ADA), limiter.admit(ADA))
        assert first is None
        assert second is not None
        assert (second.status, second.code, second.retry_after_s) == (429, "rate_limited", 3)
        for text in ("10 requests a second", "5 at once", "wait 3 s", "TRAINYARD_MAX_REQUESTS_PER_S"):
            assert text in str(second)
        for _ in range(100):
            assert await limiter.admit(ADA) is not None
        assert len(counting.asked) == 1, "a client that sends too much costs no round trip"
        assert await limiter.admit(BEN) is None
        clock.now += 2.6
        assert await limiter.admit(ADA) is None

    asyncio.run(run())


def test_while_nobody_counts_requests_pass_without_waiting(caplog: pytest.LogCaptureFixture) -> None:
    async def run() -> None:
        clock, counting = Clock(), Scripted(granted=0, next_after_s=9)
        limiter = limiter_of(counting, clock)
        counting.is_out = True
        assert await limiter.admit(ADA) is None
        assert [await limiter.admit(ADA) for _ in range(20)] == [None] * 20
        assert len(counting.asked) == 1, "it is not asked at each request meanwhile"
        clock.now += 1.1
        assert await limiter.admit(ADA) is None
        await asyncio.sleep(0.01)
        assert len(counting.asked) == 2
        counting.is_out = False
        clock.now += 1.1
        assert await limiter.admit(ADA) is None, "it asks beside the request"
        await asyncio.sleep(0.01)
        assert await limiter.admit(ADA) is not None
        await limiter.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(run())
    said = [record.getMessage() for record in caplog.records]
    assert said == ["requests pass without a limit: away", "requests are limited again"]


def test_a_request_that_is_given_up_takes_nobody_else_s_answer() -> None:
    async def run() -> None:
        counting = Scripted(granted=2)
        limiter = limiter_of(counting)
        counting.may_answer.clear()
        asking = [asyncio.create_task(limiter.admit(ADA)) for _ in range(3)]
        await asyncio.sleep(0)
        asking[0].cancel()
        counting.may_answer.set()
        gone, *others = await asyncio.gather(*asking, return_exceptions=True)
        assert isinstance(gone, asyncio.CancelledError)
        assert others[0] is None
        await limiter.close()

    asyncio.run(run())


def test_what_is_open_to_everybody_and_the_metrics_do_not_count() -> None:
    for identity, path, counts in (
        (ADA, "/jobs", True),
        (ADMINISTRATOR, "/predict", True),
        (STRANGER, "/healthz", False),
        (ADMINISTRATOR, "/metrics", False),
    ):
        assert RateLimiter.concerns(identity, path) is counts, path


def test_there_is_no_limit_without_a_setting_or_without_keys() -> None:
    key = SecretStr("k" * 16)
    assert build_rate_limiter(Settings(admin_key=key)) is None
    assert build_rate_limiter(Settings(max_requests_per_s=1)) is None
    alone = build_rate_limiter(Settings(admin_key=key, max_requests_per_s=1))
    assert alone is not None
    assert isinstance(alone._buckets, LocalBuckets)
    for url, kind in (("redis://127.0.0.1:1/0;redis://b/0", SharedBuckets), ("sentinel://a:1", LocalBuckets)):
        made = build_rate_limiter(Settings(admin_key=key, max_requests_per_s=1, redis_url=SecretStr(url)))
        assert made is not None
        assert isinstance(made._buckets, kind)


@pytest.fixture
def limited(serve: Serve) -> Served:
    return serve(**WITH_KEYS, **SLOW)


def test_the_request_above_the_limit_is_refused_and_says_what_to_do(limited: Served) -> None:
    with client_for(limited, "ada") as ada, client_for(limited, "ben") as ben:
        assert [ada.get("/jobs").status_code for _ in range(5)] == [200] * 5
        answer = ada.post("/predict", content=png())
        error = error_of(answer, 429, "rate_limited")
        assert (error["type"], "TRAINYARD_MAX_REQUESTS_PER_S" in error["message"]) == ("rate_limit", True)
        assert 1 <= int(answer.headers["retry-after"]) <= 100
        assert "connection" not in answer.headers, "a small body is dropped, and the connection stays"
        with_large_body = ada.post("/predict", content=b"x" * 100_000)
        assert (with_large_body.status_code, with_large_body.headers["connection"]) == (429, "close")
        assert ben.get("/jobs").status_code == 200
        for path in ("/healthz", "/readyz", "/yard", "/openapi.json"):
            assert ada.get(path).status_code == 200, path
        assert limited.http.get("/metrics", headers={"Authorization": f"Bearer {ADMIN_KEY}"}).status_code == 200


def test_a_session_counts_for_its_key(limited: Served) -> None:
    _, key = add_key(limited, "ada")
    with client_of(limited, None) as browser, client_of(limited, key) as program:
        assert browser.post("/session", json={"key": key}).status_code == 204
        assert [browser.get("/jobs").status_code for _ in range(3)] == [200] * 3
        assert [program.get("/jobs").status_code for _ in range(3)] == [200, 200, 429]
        assert browser.get("/jobs").status_code == 429


def test_an_event_stream_that_is_open_goes_on(limited: Served) -> None:
    with client_for(limited, "ada") as ada, client_for(limited, "ada") as other, ada.stream("GET", "/events") as stream:
        lines = stream.iter_lines()
        assert "event: tick" in (next(lines), next(lines))
        while ada.get("/jobs").status_code != 429:
            pass
        assert other.post("/jobs", json={"dataset": "digits"}).status_code == 202
        assert "event: job" in lines


def test_some_requests_are_asked_for_ahead_and_pass_at_once() -> None:
    async def run() -> None:
        clock, counting = Clock(), Scripted(granted=11)
        limiter = RateLimiter(counting, Rate(per_s=100, burst=200), clock)
        assert not limiter.passes(ADA, "/jobs")
        assert await limiter.admit(ADA) is None
        assert counting.asked == [{"ty_ada": 1 + 10}], "a tenth of a second's worth"
        assert not limiter.passes(BEN, "/jobs")
        assert [limiter.passes(ADA, "/jobs") for _ in range(11)] == [True] * 10 + [False]
        assert await limiter.admit(ADA) is None
        clock.now += 1.1
        assert not limiter.passes(ADA, "/jobs"), "what was not used in time is lost"
        assert len(counting.asked) == 2
        counting.granted, counting.next_after_s = 3, 0.5
        assert set(await asyncio.gather(*(limiter.admit(ADA) for _ in range(3)))) == {None}
        assert not limiter.passes(ADA, "/jobs")
        for rate in (Rate(per_s=9, burst=1000), Rate(per_s=1000, burst=9)):
            await RateLimiter(counting, rate, clock).admit(BEN)
            assert counting.asked[-1] == {"ty_ben": 1}, "of a small limit nothing is held back from other processes"

    asyncio.run(run())


def test_a_busy_key_costs_a_question_only_now_and_then(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    genuine = LocalBuckets.take

    async def count(self: LocalBuckets, wanted: Mapping[str, int]) -> dict[str, Taken]:
        asked.append(sum(wanted.values()))
        return await genuine(self, wanted)

    monkeypatch.setattr(LocalBuckets, "take", count)
    served = serve(**WITH_KEYS, max_requests_per_s=1000, max_request_burst=1000)
    with client_for(served, "ada") as ada:
        assert {ada.get("/jobs?limit=1").status_code for _ in range(50)} == {200}
    assert len(asked) < 10


def test_processes_that_share_a_queue_share_the_limit(
    serve: Serve, valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buckets, "ANSWER_WITHIN_S", 20.0)
    shared = SLOW | {"redis_url": SecretStr(valkey_url)}
    first, second = serve(**WITH_KEYS, **shared), serve(**WITH_KEYS, **shared)
    _, key = add_key(first, "ada")
    with client_of(first, key) as here, client_of(second, key) as there:
        statuses = [client.get("/jobs").status_code for client in (here, there) * 4]
    assert sorted(statuses) == [200] * 5 + [429] * 3


def test_without_the_queue_s_server_requests_pass(serve: Serve) -> None:
    served = serve(**WITH_KEYS, **SLOW, redis_url=SecretStr("redis://127.0.0.1:1/0"))
    with client_for(served, "ada") as ada:
        assert {ada.get("/jobs").status_code for _ in range(20)} == {200}


def test_a_refused_prediction_takes_no_place(serve: Serve) -> None:
    served = serve(**WITH_KEYS, **SLOW, max_queued_predictions=1)
    with client_for(served, "ada") as ada:
        statuses = [ada.post("/predict", content=png()).status_code for _ in range(8)]
        assert statuses[5:] == [429] * 3
        wait_until(lambda: served.door.admission._free_places == 1)


def test_a_strange_key_is_refused_as_one_and_not_counted(limited: Served) -> None:
    with httpx.Client(base_url=limited.url, headers={"Authorization": "Bearer wrong"}, trust_env=False) as stranger:
        assert {stranger.get("/jobs").status_code for _ in range(20)} == {401}
