"""`GET /events` on a real server, on both databases."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from api.streams import yard_feed
from tests.api.conftest import Serve
from tests.api.served import Served, error_of, wait_until
from tests.postgres import create_database
from trainyard.artifacts.deletion import delete_job
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.database.tables import Job
from trainyard.jobs import jobs, yard_log
from trainyard.jobs.changes import Changes, change
from trainyard.jobs.yard_log import tell
from trainyard.scheduling import leases, workers
from trainyard.settings import Settings
from trainyard.states import YardEventKind

ALL = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]


@pytest.fixture
def database(request: pytest.FixtureRequest, settings: Settings) -> Iterator[Database]:
    """SQLite, or where a test asks for it PostgreSQL."""
    on_postgres = getattr(request, "param", "sqlite") == "postgres"
    url = create_database(request.getfixturevalue("postgres_url")) if on_postgres else settings.sqlalchemy_url
    database = Database(url)
    migrate(database)
    yield database
    database.close()


@dataclass
class Watcher:
    """A client that keeps what a stream sends."""

    events: list[tuple[str, int | None, dict[str, Any]]] = field(default_factory=list)  #: type, number, data
    status: int = 0
    response: httpx.Response | None = None

    @property
    def numbers(self) -> list[int]:
        return [number for kind, number, _ in self.events if number is not None and kind not in {"tick", "reset"}]

    @property
    def last_id(self) -> int:
        """What a browser would send as `Last-Event-ID`."""
        numbers = [number for _, number, _ in self.events if number is not None]
        return numbers[-1]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [data for kind, _, data in self.events if kind in kinds]

    def read(self, url: str, headers: dict[str, str]) -> None:
        with httpx.stream("GET", f"{url}/events", headers=headers, timeout=30, trust_env=False) as self.response:
            self.status, frame = self.response.status_code, {}
            for line in self.response.iter_lines():
                if line:
                    name, _, value = line.partition(": ")
                    frame[name] = value
                elif "data" in frame:
                    number = int(frame["id"]) if "id" in frame else None
                    self.events.append((frame["event"], number, json.loads(frame["data"])))
                    frame = {}


@contextmanager
def watching(served: Served, last: int | None = None, **headers: str) -> Iterator[Watcher]:
    """Inside, a thread reads a stream, which has begun."""
    watcher = Watcher()
    if last is not None:
        headers["Last-Event-ID"] = str(last)

    def read() -> None:
        with suppress(httpx.HTTPError, OSError):  # the test is over
            watcher.read(served.url, headers)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        wait_until(lambda: watcher.events or not thread.is_alive())
        yield watcher
    finally:
        if watcher.response is not None and thread.is_alive():
            stream = watcher.response.extensions["network_stream"]
            stream.get_extra_info("socket").shutdown(2)
        thread.join(10)


def put_back(served: Served, job_id: str) -> None:
    with served.database.writing() as session:
        lease = leases.Lease(job_id, 1, "wrk_test")
        leases.end_attempt(session, lease, leases.Ending(stopped="drain"), first_backoff_s=0)


@pytest.mark.parametrize("database", ALL, indirect=True)
def test_a_stream_tells_each_change_with_the_thing_itself(served: Served) -> None:
    with watching(served) as watcher:
        assert watcher.events[0][0] == "tick"
        job_id = served.add_job()
        wait_until(lambda: len(watcher.of("job")) == 2)
        checkpoint_id = served.add_checkpoint(job_id, 1, val_loss=0.5).id
        wait_until(lambda: watcher.of("checkpoint", "serving")[1:])
        row = served.http.get("/jobs", params={"view": "row"}).json()["data"][0]
        assert watcher.of("job")[-1] == row
        assert watcher.of("checkpoint")[0]["id"] == checkpoint_id == row["latest_checkpoint"]
        assert watcher.of("serving")[0] == {"checkpoint": checkpoint_id, "job": job_id, "epoch": 1}
        with served.database.writing() as session:
            jobs.cancel(session, "local", job_id)
        put_back(served, job_id)
        with served.database.writing() as session:
            delete_job(session, "local", job_id)
        wait_until(lambda: watcher.of("gone"))
        assert watcher.of("gone") == [{"job": job_id}]
        assert watcher.numbers == sorted(set(watcher.numbers))


@pytest.mark.parametrize("database", ALL, indirect=True)
def test_one_who_comes_back_gets_all_in_between_once(served: Served) -> None:
    job_id = served.add_job()
    with watching(served) as watcher:
        pass
    known = watcher.last_id
    for number in range(250):  # more than a page
        with served.database.writing() as session:
            change(session, "local", job_id, Changes(name=f"name {number}"))
    with served.database.reading() as session:
        entries = yard_log.list_entries(session, after=known, upto=2**62, limit=1000)
        expected = [entry.number for entry in entries]
    assert len(expected) == 250
    with watching(served, known) as watcher:
        wait_until(lambda: len(watcher.numbers) >= 250)
        with served.database.writing() as session:
            change(session, "local", job_id, Changes(name="last"))
        wait_until(lambda: len(watcher.numbers) > 250)
        assert watcher.numbers[:250] == expected
        assert watcher.of("job")[0]["name"] == "name 249", "what is sent is as it is now"
        assert watcher.of("reset") == []


@pytest.mark.parametrize("database", ALL, indirect=True)
def test_watchers_that_come_and_go_see_every_number_once_while_many_write(served: Served) -> None:
    """Writers commit in another order than they drew their numbers; each watcher is cut off again and again."""
    job_ids = [served.add_job() for _ in range(4)]
    done = threading.Event()
    with watching(served) as first:
        begin = first.last_id

    def keep_writing(writer: int) -> None:
        chance = random.Random(writer)
        for turn in range(15):
            with served.database.writing() as session:
                change(session, "local", job_ids[writer % 4], Changes(name=f"{writer}-{turn}"))
                time.sleep(chance.random() * 0.02)

    def keep_watching(seed: int) -> list[int]:
        chance, last, numbers = random.Random(seed), begin, []
        while True:
            is_over = done.is_set()
            with watching(served, last) as watcher:
                time.sleep(0.1 if is_over else chance.random())
                if is_over:
                    wait_until(lambda: watcher.last_id >= written()[-1])
            assert watcher.of("reset") == []
            numbers += watcher.numbers
            last = max(last, watcher.last_id)
            if is_over:
                return numbers

    def written() -> list[int]:
        with served.database.reading() as session:
            return [entry.number for entry in yard_log.list_entries(session, after=begin, upto=2**62, limit=9999)]

    with ThreadPoolExecutor(8) as pool:
        watchers = [pool.submit(keep_watching, seed) for seed in range(3)]
        for writer in [pool.submit(keep_writing, number) for number in range(4)]:
            writer.result()
        done.set()
        for watcher in watchers:
            assert watcher.result() == written()


def test_one_who_is_too_far_behind_is_told_to_read_anew(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yard_feed, "MOST_BEHIND", 10)
    with watching(served) as watcher:
        known = watcher.last_id
    with served.database.writing() as session:
        for number in range(11):
            tell(session, "local", YardEventKind.GONE, f"job_{number}")
    with watching(served, known) as watcher:
        assert watcher.events[0][0] == "reset"
        wait_until(lambda: watcher.of("tick"))
        assert watcher.last_id == watcher.of("reset")[0]["number"] == known + 11
        assert watcher.numbers == []
    with watching(served, known + 1) as watcher:
        wait_until(lambda: len(watcher.numbers) == 10)
    with watching(served, known + 12) as watcher:
        assert watcher.events[0][0] == "reset", "there is no such event yet: another database was restored, say"


def test_others_see_nothing_of_it(served: Served) -> None:
    with watching(served) as watcher:
        with served.database.writing() as session:
            tell(session, "alice", YardEventKind.GONE, "job_alice")
            tell(session, None, YardEventKind.DATASET, "ds_digits")
            tell(session, "local", YardEventKind.GONE, "job_mine")
        wait_until(lambda: watcher.of("gone"))
        assert watcher.of("gone") == [{"job": "job_mine"}]
        assert watcher.of("dataset")[0]["id"] == "ds_digits"


def test_progress_and_places_in_the_queue_are_told_as_they_change(served: Served) -> None:
    served.app.state.services.events._feed.unnumbered_s = 0.0
    job_id = served.add_job()
    waiting = served.http.post("/jobs", json={"dataset": "digits"}).json()["id"]
    with watching(served) as watcher:
        for step in (1, 2):
            with served.database.writing() as session:
                session.get_one(Job, job_id).progress = {"step": step, "steps": 9}
            wait_until(lambda step=step: any(told["progress"]["step"] == step for told in watcher.of("progress")))
        first = served.http.post("/jobs", json={"dataset": "digits", "priority": 9}).json()["id"]
        wait_until(lambda: any(told["queue_position"] == 2 for told in watcher.of("progress")))
        told = {each["job"]: each for each in watcher.of("progress")}
        assert told[waiting] == {
            "job": waiting, "progress": told[waiting]["progress"], "metrics": None, "queue_position": 2,
            "waiting_for": "no_live_worker",
        }  # fmt: skip
        assert told[first]["queue_position"] == 1
        assert len([each for each in watcher.of("progress") if each["job"] == job_id]) == 2
        assert {number for kind, number, _ in watcher.events if kind == "progress"} == {None}


def test_a_worker_is_told_when_it_changes_and_not_at_each_heartbeat(served: Served) -> None:
    served.app.state.services.events._feed.unnumbered_s = 0.0
    identity = workers.WorkerIdentity("wrk_new", "host", 1, ("cpu",))
    with watching(served) as watcher:
        for utilisation in (0.1, 0.2, 0.3):
            reading = workers.DeviceReading("H100", 80_000, round(80_000 * utilisation), utilisation)
            with served.database.writing() as session:
                workers.mark_seen(session, identity, draining=False, readings=[reading])
            time.sleep(0.6)
        assert [told["state"] for told in watcher.of("worker")] == ["live"]
        assert watcher.of("worker")[0]["slots"][0]["device_name"] == "H100"
        with served.database.writing() as session:
            workers.mark_stopped(session, "wrk_new")
        wait_until(lambda: len(watcher.of("worker")) == 2)
        assert watcher.of("worker")[-1]["state"] == "stopped"


def test_many_watchers_cost_one_look_at_a_time(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    feed = served.app.state.services.events._feed
    really = feed.look

    def look() -> Any:
        looks.append(threading.get_ident())
        return really()

    monkeypatch.setattr(feed, "look", look)
    with watching(served) as first, watching(served) as second, watching(served) as third:
        assert feed.num_watchers == 3
        looks.clear()
        job_id = served.add_job()
        wait_until(lambda: all(len(each.of("job")) == 2 for each in (first, second, third)))
        assert len(looks) <= 3
        assert {each["id"] for each in first.of("job")} == {job_id}
    wait_until(lambda: not feed.is_watched)


def test_a_burst_beyond_the_buffer_loses_nothing(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yard_feed, "BUFFERED", 20)
    with watching(served) as watcher:
        with served.database.writing() as session:
            tell(session, "local", YardEventKind.GONE, *(f"job_{number}" for number in range(300)))
        wait_until(lambda: len(watcher.numbers) == 300)
        assert [told["job"] for told in watcher.of("gone")] == [f"job_{number}" for number in range(300)]


def test_a_drain_ends_the_stream_and_places_are_limited(serve: Serve) -> None:
    served = serve(max_streams=1)
    with watching(served) as watcher:
        error_of(served.http.get("/events"), 503, "too_many_streams")
        served.app.state.services.draining = True
        wait_until(lambda: watcher.response is not None and watcher.response.is_closed)


@pytest.mark.parametrize("query", ["after=-1", "after=x"])
def test_a_number_that_can_not_be_is_refused(served: Served, query: str) -> None:
    assert error_of(served.http.get(f"/events?{query}"), 422, "invalid_request")["param"] == "after"
    response = served.http.get("/events", headers={"Last-Event-ID": "x"})
    assert error_of(response, 422, "invalid_request")["param"] == "Last-Event-ID"
