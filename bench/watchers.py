"""What watchers cost the API: CPU seconds a second of its process, with event streams and with pollers.

    .venv/bin/python -m bench.watchers [SECONDS]

Starts an API on a temporary SQLite folder with 500 running jobs, each watched by one stream at most, while this process
writes five events a second to jobs drawn at random; nothing trains. Then 500 clients ask for their job once a second
instead. Prints for each the CPU that the API process used, and how many events arrived.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from pathlib import Path

from sqlalchemy import update

from bench.serving import serving_api
from trainyard import datasets, jobs
from trainyard.database import Database, now
from trainyard.events import EventType, append_event
from trainyard.jobs import NewJob
from trainyard.tables import Job

NUM_JOBS, EVENTS_PER_S = 500, 5
SETTLE_S = 4.0


class Crowd:
    """Clients of one kind against one API; `seen` counts events or answers."""

    def __init__(self, port: int) -> None:
        self._port, self.seen = port, 0

    async def watch(self, job_id: str) -> None:
        """Read a stream for ever."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(f"GET /jobs/{job_id}/events HTTP/1.1\r\nHost: b\r\nAccept: text/event-stream\r\n\r\n".encode())
        while line := await reader.readline():
            self.seen += line.startswith(b"data: ")

    async def poll(self, job_id: str) -> None:
        """Ask for the job once a second, over one connection."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        await asyncio.sleep(random.random())
        while True:
            asked = time.monotonic()
            writer.write(f"GET /jobs/{job_id} HTTP/1.1\r\nHost: b\r\n\r\n".encode())
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            await reader.readexactly(length)
            self.seen += head.startswith(b"HTTP/1.1 200")
            await asyncio.sleep(max(0.0, asked + 1 - time.monotonic()))


def main(seconds: float) -> None:
    with serving_api() as (api, port, database):
        asyncio.run(_measure(api.pid, port, database, _fill(database), seconds))


async def _measure(pid: int, port: int, database: Database, job_ids: list[str], seconds: float) -> None:
    driver = asyncio.create_task(_write_events(database, job_ids))
    for kind, count in (("streams", 0), ("streams", 100), ("streams", 500), ("pollers", 500)):
        crowd = Crowd(port)
        client = crowd.watch if kind == "streams" else crowd.poll
        tasks = [asyncio.create_task(client(job_id)) for job_id in job_ids[:count]]
        await asyncio.sleep(SETTLE_S)
        seen, used, began = crowd.seen, _cpu_s(pid), time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        cpu, rate = (_cpu_s(pid) - used) / took, (crowd.seen - seen) / took
        print(
            f"{count:4} {kind}: {cpu:.3f} CPU s a second, {rate:.1f} {'events' if kind == 'streams' else 'answers'}/s"
        )
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    driver.cancel()


async def _write_events(database: Database, job_ids: list[str]) -> None:
    def write(job_id: str) -> None:
        with database.writing() as session:
            append_event(session, job_id, EventType.WARNING, reason="bench", data={"message": "x" * 80})

    while True:
        await asyncio.to_thread(write, random.choice(job_ids))
        await asyncio.sleep(1 / EVENTS_PER_S)


def _fill(database: Database) -> list[str]:
    with database.writing() as session:
        dataset = datasets.get_dataset(session, "local", "digits")
        new = NewJob(recipe="quick", config={"epochs": 3}, seed=1, max_failures=3)
        job_ids = [jobs.submit(session, "local", dataset, new).id for _ in range(NUM_JOBS)]
        running = {"state": "running", "lease_owner": "wrk_bench", "lease_epoch": 1, "lease_expires_at": now() + 86400}
        session.execute(update(Job).values(running))
    return job_ids


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 8.0)
