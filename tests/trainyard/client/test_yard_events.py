"""A program that follows a yard through the client, also when the stream is cut off."""

from __future__ import annotations

import asyncio
from itertools import islice

import httpx
import pytest

from tests.api.conftest import database, runtime, serve, served, settings
from tests.api.served import Served
from trainyard.client import AsyncClient, Client, KeyRefused, Unavailable, YardEvent
from trainyard.client.answers import Answer
from trainyard.client.models import Checkpoint, JobRow
from trainyard.client.synchronous import yard_events
from trainyard.client.yard_events import read_yard_event

__all__ = ["database", "runtime", "serve", "served", "settings"]

STREAM = {"Content-Type": "text/event-stream"}
BUSY = httpx.Response(503, headers={"Retry-After": "3"}, json={"error": {"code": "database_unavailable"}})
Events = list[tuple[str, int | None, str]]


def stream(events: Events) -> httpx.Response:
    """The answer that sends these events and is then cut off."""
    lines = [("event", kind) if number is None else ("id", f"{number}\nevent: {kind}") for kind, number, _ in events]
    frames = [f"{name}: {value}\ndata: {data}\n\n" for (name, value), (*_, data) in zip(lines, events, strict=True)]
    return httpx.Response(200, headers=STREAM, text="".join(frames))


class Played:
    """A client of a yard that answers so, one after the other."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *steps: httpx.Response | Exception) -> None:
        self._coming = list(steps)
        self.asked: list[str | None] = []  #: the `Last-Event-ID` of each request
        self.waits: list[float] = []
        monkeypatch.setattr(yard_events, "sleep", self.waits.append)
        self.client = Client("http://yard", key="")
        self.client._http = httpx.Client(base_url="http://yard", transport=httpx.MockTransport(self._answer))

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.headers.get("Last-Event-ID"))
        step = self._coming.pop(0)
        if isinstance(step, Exception):
            raise step
        return step


def follow(played: Played, **options: bool) -> list[YardEvent]:
    """What comes until the yard refuses the key."""
    seen: list[YardEvent] = []
    try:
        for event in played.client.iter_yard_events(**options):
            seen.append(event)
    except KeyRefused:
        return seen
    raise AssertionError("the refusal was not raised")


def test_a_stream_that_is_cut_goes_on_behind_the_last_number(monkeypatch: pytest.MonkeyPatch) -> None:
    first: Events = [
        ("tick", 4, "{}"),
        ("job", None, '{"id": "job_1"}'),
        ("checkpoint", 5, '{"id": "ckpt_1"}'),
        ("progress", None, '{"job": "job_1"}'),
    ]
    second: Events = [("tick", 5, "{}"), ("gone", 7, '{"job": "job_1"}'), ("reset", 9, '{"number": 9}')]
    refusal = httpx.Response(401, json={"error": {"code": "unauthenticated"}})
    steps = (stream(first), httpx.ConnectError("it restarts"), BUSY, stream(second), refusal)
    played = Played(monkeypatch, *steps)
    assert [(event.kind, event.number) for event in follow(played)] == [
        ("job", None),
        ("checkpoint", 5),
        ("progress", None),
        ("gone", 7),
        ("reset", 9),
    ]
    assert played.asked == [None, "5", "5", "5", "9"]
    assert played.waits == [0.2, 0.2, 3.0, 0.2]
    ticks = follow(Played(monkeypatch, stream(first), refusal), ticks=True)
    assert (ticks[0].kind, ticks[0].number) == ("tick", 4)


def test_a_yard_that_can_not_be_followed_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for step, error in ((BUSY, Unavailable), (httpx.ConnectError("nobody"), httpx.ConnectError)):
        with pytest.raises(error):
            next(Played(monkeypatch, step).client.iter_yard_events())


def test_events_have_the_types_of_other_answers() -> None:
    assert isinstance(read_yard_event("checkpoint", 1, {"id": "ckpt_1"}).data, Checkpoint)
    unknown = read_yard_event("of a newer yard", None, {"id": 1})
    assert (type(unknown.data), unknown.data["id"]) == (Answer, 1)


def test_a_yard_is_followed_by_both_clients(served: Served) -> None:
    with Client(served.url) as client:
        events = client.iter_yard_events(ticks=True)
        begin = next(event for event in events if event.kind == "tick")
        job = client.create_job("digits", name="seen")
        event = next(event for event in events if event.kind == "job")
        assert isinstance(event.data, JobRow)
        assert (event.data.id, event.data.name, event.number) == (job.id, "seen", (begin.number or 0) + 1)
        again = next(event for event in client.iter_yard_events(after=begin.number) if event.kind == "job")
        assert (again.number, again.data["id"]) == (event.number, job.id)

    async def look() -> YardEvent:
        async with AsyncClient(served.url) as client:
            async for event in client.iter_yard_events(after=begin.number):
                if event.kind == "job":
                    return event
        raise AssertionError("it has no end")

    assert asyncio.run(look()).data["id"] == job.id


def test_jobs_are_found_as_rows_and_counted(served: Served) -> None:
    with Client(served.url) as client:
        first, second = client.create_job("digits", name="roses"), client.create_job("digits", recipe="small-images")
        client.cancel_job(second.id)
        rows = list(client.iter_job_rows())
        assert [row.id for row in rows] == [second.id, first.id]
        assert ("spark" in rows[0], "config" in rows[0]) == (True, False)
        assert [row.id for row in client.iter_job_rows(state=["queued", "running"])] == [first.id]
        assert [job.id for job in client.iter_jobs(recipe="small-images", state="cancelled")] == [second.id]
        assert [job.id for job in islice(client.iter_jobs(text="ROSE"), 5)] == [first.id]
        assert client.count_jobs()["queued"] == client.count_jobs()["cancelled"] == 1
        assert client.count_jobs(text="rose")["cancelled"] == 0
