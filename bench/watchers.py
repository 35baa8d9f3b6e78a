"""Measures what watchers cost the API, in CPU seconds a second: with event streams, and with clients that poll.

    .venv/bin/python -m bench.watchers [--clients 500] [--seconds 8]

Starts an API on a temporary SQLite folder with as many running jobs as clients, each watched by at most one client,
while this process writes five events a second to jobs drawn at random; nothing trains. The contenders, one after the
other: no client; event streams; clients that request their job once a second, plainly and with `If-None-Match`; the
same while every job's progress changes every second, so that no answer may be a 304; the same with all jobs waiting in
the queue. The floor is clients that request `/healthz` once a second: an answer with nothing in it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import update

from alexnet_core.recipes import get_recipe
from bench.serving import find_child, serving_api
from trainyard.artifacts import datasets
from trainyard.database.connection import Database, now
from trainyard.database.tables import Job
from trainyard.jobs import jobs
from trainyard.jobs.events import append_event
from trainyard.jobs.jobs import NewJob
from trainyard.states import EventType

EVENTS_PER_S = 5
SETTLE_S = 4.0

Client = Callable[[str], Coroutine[Any, Any, None]]


class Crowd:
    """Clients of one kind that use one API."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.seen = 0  #: events, or answers
        self.unchanged = 0  #: of the answers: those of status 304
        self.waits: list[float] = []  #: for the answers, in seconds

    async def watch(self, job_id: str) -> None:
        """Read a stream for ever."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: b\r\nAccept: text/event-stream\r\n\r\n".encode())
        while line := await reader.readline():
            self.seen += line.startswith(b"data: ")

    async def ask(self, job_id: str) -> None:
        """Ask for the job once a second, over one connection."""
        await self._ask(f"/jobs/{job_id}", with_tag=False)

    async def ask_with_tag(self, job_id: str) -> None:
        """Do the same with the tag of the previous answer."""
        await self._ask(f"/jobs/{job_id}", with_tag=True)

    async def ask_for_nothing(self, _: str) -> None:
        """Ask `/healthz` once a second."""
        await self._ask("/healthz", with_tag=False)

    async def _ask(self, path: str, *, with_tag: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.sleep(random.random())
        tag = ""
        while True:
            asked = time.monotonic()
            known = f"If-None-Match: {tag}\r\n" if tag and with_tag else ""
            writer.write(f"GET {path} HTTP/1.1\r\nHost: b\r\n{known}\r\n".encode())
            status, _, head = (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in head.split("\r\n") if line)
            await reader.readexactly(int(headers.get("content-length", 0)))
            assert status.split()[1] in {"200", "304"}, status
            tag = headers.get("etag", "")
            self.seen, self.unchanged = self.seen + 1, self.unchanged + (status.split()[1] == "304")
            self.waits.append(time.monotonic() - asked)
            await asyncio.sleep(max(0.0, asked + 1 - time.monotonic()))


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    client: Callable[[Crowd], Client] | None
    share: float = 1.0  #: of the clients
    prepare: Callable[[Database], None] | None = None  #: before it
    busy: bool = False  #: every job's progress is another every second


CONTENDERS = [
    Contender("nobody", None, 0),
    Contender("event streams, a fifth", lambda crowd: crowd.watch, 0.2),
    Contender("event streams", lambda crowd: crowd.watch),
    Contender("GET /healthz", lambda crowd: crowd.ask_for_nothing),
    Contender("GET /jobs/{id}", lambda crowd: crowd.ask),
    Contender("GET /jobs/{id}, If-None-Match", lambda crowd: crowd.ask_with_tag),
    Contender("the same, all jobs change", lambda crowd: crowd.ask_with_tag, busy=True),
    Contender("the same, all jobs queued", lambda crowd: crowd.ask_with_tag, prepare=lambda database: _queue(database)),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=500, help="how many watch (default 500)")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement (default 8)")
    given = parser.parse_args()
    print(f"{'watchers':32} {'number':>6} {'CPU s/s':>8} {'received/s':>10} {'304':>5} {'p50 ms':>7} {'p99 ms':>7}")
    with serving_api() as (api, port, database):
        asyncio.run(_measure_all(find_child(api.pid, "api.web_process"), port, database, given.clients, given.seconds))


async def _measure_all(pid: int, port: int, database: Database, clients: int, seconds: float) -> None:
    job_ids = _fill(database, clients)
    driver = asyncio.create_task(_write_events(database, job_ids))
    for contender in CONTENDERS:
        if contender.prepare is not None:
            contender.prepare(database)
        trainers = asyncio.create_task(_write_progress(database)) if contender.busy else None
        await _measure(contender, pid, port, job_ids[: round(clients * contender.share)], seconds)
        if trainers is not None:
            trainers.cancel()
    driver.cancel()


async def _measure(contender: Contender, pid: int, port: int, job_ids: list[str], seconds: float) -> None:
    crowd = Crowd(port)
    tasks = [asyncio.create_task(contender.client(crowd)(job_id)) for job_id in job_ids if contender.client]
    await asyncio.sleep(SETTLE_S)
    crowd.seen = crowd.unchanged = 0
    crowd.waits.clear()
    used, began = _cpu_s(pid), time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    cpu, rate = (_cpu_s(pid) - used) / took, crowd.seen / took
    waits = sorted(crowd.waits) or [0.0]
    p50, p99 = (1000 * waits[int(share * (len(waits) - 1))] for share in (0.5, 0.99))
    unchanged = f"{crowd.unchanged / crowd.seen:5.0%}" if crowd.seen else ""
    print(
        f"{contender.name:32} {len(tasks):6} {cpu:8.3f} {rate:10.1f} {unchanged:>5} {p50:7.1f} {p99:7.1f}", flush=True
    )
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _write_events(database: Database, job_ids: list[str]) -> None:
    def write(job_id: str) -> None:
        with database.writing() as session:
            append_event(session, job_id, EventType.WARNING, reason="bench", data={"message": "x" * 80})

    while True:
        await asyncio.to_thread(write, random.choice(job_ids))
        await asyncio.sleep(1 / EVENTS_PER_S)


async def _write_progress(database: Database) -> None:
    step = 0

    def write() -> None:
        with database.writing() as session:
            session.execute(update(Job).values(progress={"step": step, "epoch": 0, "fraction": step / 1e6}))

    while True:
        step += 1
        await asyncio.to_thread(write)
        await asyncio.sleep(1)


def _fill(database: Database, count: int) -> list[str]:
    with database.writing() as session:
        dataset = datasets.get_dataset(session, "local", "digits")
        new = NewJob(recipe="quick", config=get_recipe("quick").config.model_dump(mode="json"), seed=1, max_failures=3)
        job_ids = [jobs.submit(session, "local", dataset, new).id for _ in range(count)]
        running = {"state": "running", "lease_owner": "wrk_bench", "lease_epoch": 1, "lease_expires_at": now() + 86400}
        session.execute(update(Job).values(running))
    return job_ids


def _queue(database: Database) -> None:
    with database.writing() as session:
        session.execute(update(Job).values(state="queued", lease_owner=None, lease_expires_at=None))


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
