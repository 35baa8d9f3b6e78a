"""How long a job and a page of jobs take to read, with 1,000 and with 100,000 jobs in the table.

    .venv/bin/python -m bench.job_reads [REQUESTS]

Starts an API on a temporary SQLite folder and asks it over one connection; every second job has ended, one in a hundred
runs, one in a thousand has the metadata that is looked for. Prints milliseconds: median and 99th percentile.
"""

from __future__ import annotations

import http.client
import random
import statistics
import sys
import time

from sqlalchemy import insert

from bench.serving import serving_api
from trainyard.database import Database
from trainyard.tables import Job, JobEvent

SIZES = (1_000, 100_000)


def main(requests: int) -> None:
    with serving_api() as (_, port, database):
        filled = 0
        for size in SIZES:
            _fill(database, filled, size)
            filled = size
            print(f"{size} jobs")
            for path in _paths(size):
                _measure(port, path, requests)


def _paths(size: int) -> list[str]:
    lists = ["", "?state=running", "?state=succeeded", "?state=paused", "?dataset=digits", "?metadata[team]=rare"]
    return [f"/jobs/{_id_of(random.randrange(size // 200) * 200)}", *(f"/jobs{query}" for query in lists)]


def _measure(port: int, path: str, requests: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    took = []
    for _ in range(requests):
        began = time.perf_counter()
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        took.append(1000 * (time.perf_counter() - began))
        assert answer.status == 200, path
    cuts = statistics.quantiles(took, n=100)
    print(f"  {path:60} p50 {cuts[49]:7.1f}  p99 {cuts[98]:7.1f}")


def _id_of(number: int) -> str:
    return f"job_{number:026d}"


def _fill(database: Database, begin: int, end: int) -> None:
    with database.writing() as session:
        for first in range(begin, end, 5000):
            numbers = range(first, min(end, first + 5000))
            session.execute(insert(Job), [_row_of(number) for number in numbers])
            session.execute(insert(JobEvent), [_event_of(number) for number in numbers])


def _row_of(number: int) -> dict[str, object]:
    at = 1.7e9 + number
    state = "running" if number % 100 == 0 else "succeeded" if number % 2 else "failed"
    running = state == "running"
    return {
        "id": _id_of(number), "owner": "local", "dataset_id": "ds_digits", "recipe": "quick", "config": {"epochs": 3},
        "seed": 1, "labels": {"team": "rare" if number % 1000 == 0 else "vision"}, "state": state, "desired": "run",
        "not_before": 0.0, "max_failures": 3, "event_seq": 1, "created_at": at, "queued_at": at, "started_at": at,
        "finished_at": None if running else at, "lease_owner": "wrk_bench" if running else None,
        "lease_expires_at": 4e9 if running else None,
    }  # fmt: skip


def _event_of(number: int) -> dict[str, object]:
    return {
        "job_id": _id_of(number), "seq": 1, "at": 1.7e9, "type": "state", "state": "queued", "reason": "submitted",
        "lease_epoch": 0, "data": {},
    }  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
