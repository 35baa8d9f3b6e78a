from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.api.served import Served, error_of, wait_until
from trainyard import jobs, leases
from trainyard.client import ApiError, Client
from trainyard.events import EventType, append_event

STREAM = {"Accept": "text/event-stream"}


def warn(served: Served, job_id: str, count: int = 1) -> None:
    for _ in range(count):
        with served.database.writing() as session:
            append_event(session, job_id, EventType.WARNING, reason="look_out", data={"loss": float("nan")})


def end(served: Served, job_id: str) -> None:
    with served.database.writing() as session:
        jobs.cancel(session, "local", job_id)
    with served.database.writing() as session:
        lease = leases.Lease(job_id, 1, "wrk_test")
        leases.end_attempt(session, lease, leases.Ending(stopped="cancel"), first_backoff_s=0)


def events_of(response: httpx.Response) -> Iterator[dict[str, Any]]:
    """The events of a stream, each checked against its own frame."""
    frame: dict[str, str] = {}
    for line in response.iter_lines():
        if line:
            name, _, value = line.partition(": ")
            frame[name] = value
        elif "data" in frame:
            event = json.loads(frame["data"])
            assert (frame["id"], frame["event"]) == (event["id"], event["type"])
            yield event
            frame = {}


def follow(served: Served, job_id: str, last: int | None = None, take: int | None = None) -> list[int]:
    headers = STREAM | ({} if last is None else {"Last-Event-ID": str(last)})
    seen: list[int] = []
    with served.http.stream("GET", f"/jobs/{job_id}/events", headers=headers) as response:
        if response.status_code == 204:
            return seen
        assert response.status_code == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        for event in events_of(response):
            seen.append(event["seq"])
            if len(seen) == take:
                break
    return seen


class TestList:
    def test_events_come_oldest_first_and_the_last_id_leads_on(self, served: Served) -> None:
        job_id = served.add_job()
        warn(served, job_id)
        page = served.http.get(f"/jobs/{job_id}/events", params={"limit": 2}).json()
        assert [(event["id"], event["reason"]) for event in page["data"]] == [("1", "submitted"), ("2", "claimed")]
        assert (page["object"], page["first_id"], page["last_id"], page["has_more"]) == ("list", "1", "2", True)
        rest = served.http.get(f"/jobs/{job_id}/events", params={"after": page["last_id"]}).json()
        [event] = rest["data"]
        assert (event["seq"], event["type"], event["state"], event["job"]) == (3, "warning", "running", job_id)
        assert event["data"] == {"loss": None}
        assert event["lease_epoch"] == 1
        assert not rest["has_more"]

    @pytest.mark.parametrize("after", ["9", "-1", "x", "99999999999999999999"])
    def test_a_number_that_the_log_has_not_reached_is_refused(self, served: Served, after: str) -> None:
        path = f"/jobs/{served.add_job()}/events"
        assert error_of(served.http.get(path, params={"after": after}), 422, "invalid_request")["param"] == "after"
        refused = served.http.get(path, headers=STREAM | {"Last-Event-ID": after})
        assert error_of(refused, 422, "invalid_request")["param"] == "Last-Event-ID"

    def test_of_no_job(self, served: Served) -> None:
        for headers in ({}, STREAM):
            error_of(served.http.get("/jobs/job_nowhere/events", headers=headers), 404, "job_not_found")


class TestStream:
    def test_it_tells_what_was_and_what_comes_and_ends_with_the_job(self, served: Served) -> None:
        job_id = served.add_job()
        seen: list[str] = []
        with served.http.stream("GET", f"/jobs/{job_id}/events", headers=STREAM) as response:
            for event in events_of(response):
                seen.append(f"{event['state']} {event['reason']}")
                if event["reason"] == "claimed":
                    end(served, job_id)
        assert seen[0] == "queued submitted"
        assert seen[-1].startswith("cancelled")
        assert follow(served, job_id, last=len(seen) - 1) == [len(seen)]
        done = served.http.get(f"/jobs/{job_id}/events", headers=STREAM | {"Last-Event-ID": str(len(seen))})
        assert (done.status_code, done.content) == (204, b"")

    def test_who_comes_back_misses_nothing_and_sees_nothing_twice(self, served: Served) -> None:
        job_id = served.add_job()
        total = 700  # more than the buffer holds

        def write() -> None:
            warn(served, job_id, total)
            end(served, job_id)

        writer = threading.Thread(target=write)
        writer.start()
        seen: list[int] = []
        for take in [1, 2, 3, 50, 7, 120, None]:
            seen += follow(served, job_id, last=seen[-1] if seen else None, take=take)
        writer.join()
        assert seen == list(range(1, total + 5))

    def test_a_client_that_went_away_is_forgotten(self, served: Served) -> None:
        job_id = served.add_job()
        hub = served.app.state.services.events
        assert follow(served, job_id, take=1) == [1]
        wait_until(lambda: hub.num_watchers == 0)

    def test_a_drain_ends_it(self, served: Served) -> None:
        job_id = served.add_job()
        with served.http.stream("GET", f"/jobs/{job_id}/events", headers=STREAM) as response:
            events = events_of(response)
            assert [next(events)["seq"], next(events)["seq"]] == [1, 2]
            served.app.state.services.draining = True
            assert list(events) == []


def test_the_client_follows_a_job_to_its_end(served: Served) -> None:
    job_id = served.add_job()
    warn(served, job_id, 120)
    end(served, job_id)
    with Client(served.url) as client:
        assert [event["seq"] for event in client.iter_events(job_id, after=2)] == list(range(3, 125))
        with pytest.raises(ApiError, match="job_not_found"):
            list(client.iter_events("job_nowhere"))
        assert client.get_metrics(job_id)["last_step"] is None
        assert client.get_logs(job_id) == ""
