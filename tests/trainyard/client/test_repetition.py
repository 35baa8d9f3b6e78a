"""What is sent again when a connection is lost or the yard is busy, and what is not; both clients."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable

import httpx
import pytest

from trainyard.client import (
    ApiError,
    AsyncClient,
    Client,
    Conflict,
    InvalidRequest,
    KeyRefused,
    NotAllowed,
    NotFound,
    QuotaExceeded,
    TooManyRequests,
    Unavailable,
)
from trainyard.client.synchronous import connection

Step = httpx.Response | Exception
BUSY = httpx.Response(503, headers={"Retry-After": "7"}, json={"error": {"code": "database_unavailable"}})
LOST = httpx.ReadError("cut")


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr(connection, "sleep", slept.append)
    return slept


def play(*steps: Step, retries: int = 3) -> tuple[Client, list[httpx.Request]]:
    """A client of a yard that answers so, one after the other."""
    asked, coming = list[httpx.Request](), list(steps)

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        step = coming.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    client = Client("http://yard", retries=retries)
    client._http = httpx.Client(base_url="http://yard", transport=httpx.MockTransport(answer))
    return client, asked


def job() -> httpx.Response:
    return httpx.Response(200, json={"id": "job_1", "state": "queued"})


def test_a_question_is_asked_again_when_the_yard_says(waits: list[float]) -> None:
    client, asked = play(BUSY, LOST, httpx.ConnectError("refused"), job())
    assert client.get_job("job_1")["id"] == "job_1"
    assert len(asked) == 4
    assert waits[0] == 7, "the yard's own time"
    assert 0.3 <= waits[1] <= 0.5 <= waits[2] <= 1.0


def test_it_gives_up_after_its_tries(waits: list[float]) -> None:
    client, asked = play(*[BUSY] * 4)
    with pytest.raises(Unavailable, match="database_unavailable") as caught:
        client.get_job("job_1")
    assert (len(asked), caught.value.retry_after_s) == (4, 7)
    client, asked = play(LOST, retries=0)
    with pytest.raises(httpx.ReadError):
        client.get_job("job_1")


def test_one_job_is_made_however_often_it_is_asked_for(waits: list[float]) -> None:
    client, asked = play(LOST, BUSY, job())
    client.create_job("digits")
    keys = {request.headers["Idempotency-Key"] for request in asked}
    assert (len(asked), len(keys)) == (3, 1)
    client, asked = play(job(), job())
    client.create_job("digits")
    client.create_job("digits", idempotency_key="mine")
    assert asked[0].headers["Idempotency-Key"] not in keys, "another call is another job"
    assert asked[1].headers["Idempotency-Key"] == "mine"


@pytest.mark.parametrize(
    "act",
    [
        lambda client: client.roll_back_alias("live"),
        lambda client: client.explain(b"x"),
    ],
)
def test_what_does_something_twice_is_sent_once(waits: list[float], act: Callable[[Client], object]) -> None:
    client, asked = play(LOST)
    with pytest.raises(httpx.ReadError):
        act(client)
    assert (len(asked), waits) == (1, [])


def test_what_the_limit_of_requests_refused_is_sent_again_whatever_it_is(waits: list[float]) -> None:
    limited = httpx.Response(429, headers={"Retry-After": "2"}, json={"error": {"code": "rate_limited"}})
    client, asked = play(limited, limited, httpx.Response(200, json={"name": "live"}))
    assert client.roll_back_alias("live")["name"] == "live"
    assert (len(asked), waits) == (3, [2, 2])
    client, asked = play(httpx.Response(429, json={"error": {"code": "other"}}))
    with pytest.raises(TooManyRequests):
        client.roll_back_alias("live")
    assert len(asked) == 1
    client, asked = play(*[limited] * 4)
    with pytest.raises(TooManyRequests, match="rate_limited"):
        client.roll_back_alias("live")
    assert len(asked) == 4


def test_a_refusal_that_stays_is_not_asked_again(waits: list[float]) -> None:
    client, asked = play(httpx.Response(404, json={"error": {"code": "job_not_found", "message": "there is none"}}))
    with pytest.raises(NotFound, match="there is none"):
        client.get_job("job_1")
    assert (len(asked), waits) == (1, [])


def test_a_removal_whose_answer_was_lost_is_done(waits: list[float]) -> None:
    gone = httpx.Response(404, json={"error": {"code": "job_not_found"}})
    client, asked = play(LOST, gone)
    client.delete_job("job_1")
    assert len(asked) == 2
    client, asked = play(gone)
    with pytest.raises(NotFound):
        client.delete_job("job_1")


def test_what_takes_too_long_is_not_begun_again(waits: list[float]) -> None:
    client, asked = play(httpx.ReadTimeout("slow"))
    with pytest.raises(httpx.ReadTimeout):
        client.get_job("job_1")
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, KeyRefused), (403, NotAllowed), (404, NotFound), (409, Conflict), (413, InvalidRequest),
        (422, InvalidRequest), (429, TooManyRequests), (500, Unavailable), (503, Unavailable), (507, QuotaExceeded),
        (418, ApiError),
    ],
)  # fmt: skip
def test_a_refusal_has_the_class_of_its_status(status: int, kind: type[ApiError]) -> None:
    client, _ = play(httpx.Response(status, text="<html>a proxy</html>"), retries=0)
    with pytest.raises(kind) as caught:
        client.get_job("job_1")
    assert type(caught.value) is kind
    assert (caught.value.status, caught.value.code) == (status, "unknown")


def test_pages_follow_each_other_and_are_asked_for_as_they_are_needed() -> None:
    def page(first: int, *, more: bool) -> httpx.Response:
        rows = [{"id": f"job_{number}"} for number in (first, first + 1)]
        return httpx.Response(200, json={"data": rows, "has_more": more, "last_id": rows[-1]["id"]})

    client, asked = play(page(1, more=True), page(3, more=False))
    jobs = client.iter_jobs(state="queued", metadata={"team": "vision"})
    assert [next(jobs)["id"], next(jobs)["id"]] == ["job_1", "job_2"]
    assert len(asked) == 1
    assert [row["id"] for row in jobs] == ["job_3", "job_4"]
    assert dict(asked[1].url.params) == {
        "state": "queued", "metadata[team]": "vision", "limit": "100", "after": "job_2",
    }  # fmt: skip


def test_the_client_that_is_awaited_repeats_likewise(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[Step] = [LOST, httpx.Response(503, headers={"Retry-After": "0"}), job()]

    def answer(request: httpx.Request) -> httpx.Response:
        step = steps.pop(0)
        if isinstance(step, Exception):
            raise step
        return step

    async def ask() -> str:
        async with AsyncClient("http://yard") as client:
            await client._http.aclose()
            client._http = httpx.AsyncClient(base_url="http://yard", transport=httpx.MockTransport(answer))
            return (await client.get_job("job_1")).id

    assert asyncio.run(ask()) == "job_1"
    assert steps == []


def test_both_clients_have_the_same_methods() -> None:
    def public(kind: type) -> dict[str, list[str]]:
        methods = inspect.getmembers(kind, inspect.isfunction)
        return {name: list(inspect.signature(it).parameters) for name, it in methods if not name.startswith("_")}

    assert public(Client) == public(AsyncClient)
