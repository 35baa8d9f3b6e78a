from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from api.streams.event_stream import EventHub
from tests.api.conftest import Serve
from tests.api.served import Served, error_of, wait_until
from trainyard.artifacts.deletion import delete_job
from trainyard.client import ApiError, Client
from trainyard.jobs import jobs
from trainyard.jobs.events import append_event
from trainyard.scheduling import leases
from trainyard.states import EventType

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
        if response.status_code in {204, 503}:
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


class TestManyAndSlowStreams:
    """What watchers may cost, and what one of them can do to the others."""

    def test_a_silent_job_is_filled_with_heartbeats_and_its_events_still_come(self, serve: Serve) -> None:
        served = serve(lambda app: None)
        served.app.state.services.events = EventHub(served.database, lambda: False, max_streams=1, heartbeat_s=0.05)
        job_id = served.add_job()
        heartbeats = 0
        reasons = []
        with served.http.stream("GET", f"/jobs/{job_id}/events", headers=STREAM) as response:
            for line in response.iter_lines():
                heartbeats += line.startswith(":")
                if line.startswith("data"):
                    reasons.append(json.loads(line.removeprefix("data: "))["reason"])
                if heartbeats == 3:
                    heartbeats += 1
                    warn(served, job_id)
                if "look_out" in reasons:
                    break
        assert reasons == ["submitted", "claimed", "look_out"]

    def test_one_more_than_allowed_is_refused_until_a_place_is_free(self, serve: Serve) -> None:
        served = serve(max_streams=2)
        job_id = served.add_job()
        path = f"/jobs/{job_id}/events"
        with contextlib.ExitStack() as streams:
            taken = [
                events_of(streams.enter_context(served.http.stream("GET", path, headers=STREAM))) for _ in range(2)
            ]
            assert [next(events)["seq"] for events in taken] == [1, 1]
            refused = streams.enter_context(served.http.stream("GET", path, headers=STREAM))
            assert refused.status_code == 503
            refused.read()
            error_of(refused, 503, "too_many_streams")
            assert int(refused.headers["retry-after"]) > 0
            assert served.http.get(path).status_code == 200, "the list has no limit"
        wait_until(lambda: served.http.get(path).status_code == 200 and follow(served, job_id, take=1) == [1])

    def test_a_refused_or_a_broken_stream_takes_no_place_for_ever(self, serve: Serve) -> None:
        served = serve(max_streams=1)
        job_id = served.add_job()
        for _ in range(5):
            wait_until(lambda: follow(served, job_id, take=1) == [1])
            error_of(served.http.get("/jobs/job_nowhere/events", headers=STREAM), 404, "job_not_found")
        end(served, job_id)
        wait_until(lambda: len(follow(served, job_id)) >= 4)

    def test_the_streams_of_a_job_that_is_deleted_end(self, served: Served) -> None:
        job_id, other = served.add_job(), served.add_job()
        with contextlib.ExitStack() as streams:
            events, others = (
                events_of(streams.enter_context(served.http.stream("GET", f"/jobs/{it}/events", headers=STREAM)))
                for it in (job_id, other)
            )
            assert [next(events)["seq"] for _ in range(2)] == [next(others)["seq"] for _ in range(2)] == [1, 2]
            with served.database.writing() as session:  # at once, so that no stream sees the job's end
                jobs.cancel(session, "local", job_id)
                lease = leases.Lease(job_id, 1, "wrk_test")
                leases.end_attempt(session, lease, leases.Ending(stopped="cancel"), first_backoff_s=0)
                delete_job(session, "local", job_id)
            assert list(events) == []
            warn(served, other)
            assert next(others)["reason"] == "look_out"
        error_of(served.http.get(f"/jobs/{job_id}/events", headers=STREAM), 404, "job_not_found")

    def test_a_client_that_reads_nothing_holds_up_nobody_and_is_dropped(self, serve: Serve) -> None:
        served = serve(taken_within_s=1.0)
        job_id = served.add_job()
        deaf = open_deaf_stream(served, job_id)
        hub = served.app.state.services.events
        wait_until(lambda: hub.num_watchers == 1)
        [connection] = served.connections
        fill(served, job_id, LARGE)
        assert follow(served, job_id, take=LARGE + 2) == list(range(1, LARGE + 3)), "the others have it all"
        wait_until(lambda: connection.flow.write_paused or connection not in served.connections)
        assert connection.transport.is_closing() or connection.transport.get_write_buffer_size() < 200_000
        wait_until(lambda: connection not in served.connections, 30)
        wait_until(lambda: hub.num_watchers == 0)
        deaf.close()

    def test_a_slow_client_that_goes_on_reading_gets_everything(self, served: Served) -> None:
        job_id = served.add_job()
        slow = open_deaf_stream(served, job_id, room=65536)
        fill(served, job_id, LARGE)
        end(served, job_id)
        received = b""
        while data := slow.recv(1 << 16):
            received += data
        slow.close()
        ids = [int(line.removeprefix(b"id: ")) for line in received.splitlines() if line.startswith(b"id: ")]
        assert ids == list(range(1, len(ids) + 1))
        assert len(ids) >= LARGE + 4

    def test_a_stop_ends_all_streams_and_waits_for_no_client_that_reads_nothing(self, serve: Serve) -> None:
        served = serve(taken_within_s=1000.0)
        job_id = served.add_job()
        fill(served, job_id, LARGE)
        deaf = open_deaf_stream(served, job_id)
        with served.http.stream("GET", f"/jobs/{served.add_job()}/events", headers=STREAM) as response:
            events = events_of(response)
            assert [next(events)["seq"], next(events)["seq"]] == [1, 2]
            wait_until(lambda: any(connection.flow.write_paused for connection in served.connections))
            served.tell_to_stop()
            assert list(events) == [], "it ends as a whole"
        served.stop()
        assert served.has_stopped
        deaf.close()


LARGE = 400  # events of 16 kB: more than all buffers between two sockets


def fill(served: Served, job_id: str, count: int) -> None:
    """Many large events at once."""
    with served.database.writing() as session:
        for _ in range(count):
            append_event(session, job_id, EventType.WARNING, reason="look_out", data={"message": "x" * 16_000})


def open_deaf_stream(served: Served, job_id: str, room: int = 4096) -> socket.socket:
    """A stream whose client has little room and reads nothing by itself."""
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    client.settimeout(30)
    client.connect(("127.0.0.1", served.port))
    request = (
        f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: [::1]\r\nAccept: text/event-stream\r\nConnection: close\r\n\r\n"
    )
    client.sendall(request.encode())
    return client


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
