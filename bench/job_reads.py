"""Measures reads of a job, of pages of jobs and of the queue, with 1,000 and with 100,000 jobs in the table.

    .venv/bin/python -m bench.job_reads [--requests 200] [--sizes 1000 100000] [--database-url URL]

Starts an API on a temporary SQLite folder, or on the named empty PostgreSQL database, and sends requests over one
connection. One job in a hundred is running, one in three is waiting, the others have ended; one in a thousand has the
metadata that is searched for. The newest 1,000 that have begun have series of 200 points each. Prints milliseconds,
median and 99th percentile. The baseline of each request is the same request with the smaller table: its time should not
grow with the table.
"""

from __future__ import annotations

import argparse
from typing import Any

from sqlalchemy import insert

from alexnet_core.recipes import get_recipe
from bench.serving import serving_api, settle, time_reads
from trainyard.database.connection import Database
from trainyard.database.tables import Job, JobEvent, JobLabel, JobMetric
from trainyard.jobs.metadata_index import digest_of

POINTS = 200  # of the series of each of the newest 1,000 jobs
CONFIG = get_recipe("quick").config.model_dump(mode="json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200, help="of each kind (default 200)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 100_000], help="jobs in the table, rising")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; default: SQLite in a temporary folder")
    given = parser.parse_args()
    with serving_api(given.database_url) as (_, port, database):
        filled = 0
        for size in given.sizes:
            _fill(database, filled, size)
            filled = size
            print(f"{size} jobs")
            for name, path in _requests(size):
                p50, p99, _ = time_reads(port, path, given.requests)
                print(f"  {name:42} p50 {p50:7.1f}  p99 {p99:7.1f}", flush=True)


def _requests(size: int) -> list[tuple[str, str]]:
    deep = size // 2
    middle_queued = next(number for number in range(deep, size) if _state_of(number) == "queued")
    filters = ["state=running", "state=succeeded", "state=paused", "dataset=digits", "dataset=mnist"]
    labels = ["metadata[team]=rare", "metadata[team]=rare&state=running", "metadata[team]=rare&state=paused"]
    rows = ["state=queued&state=failed", "q=mnist", "view=row&limit=20", "view=row&limit=1000"]
    return [
        (
            "GET /jobs/{id}, ended",
            f"/jobs/{_id_of(size // 2 * 2 - 1 if _state_of(size - 1) != 'queued' else size - 2)}",
        ),
        (
            "GET /jobs/{id}, queued, the next",
            f"/jobs/{_id_of(next(n for n in range(size) if _state_of(n) == 'queued'))}",
        ),
        ("GET /jobs/{id}, queued, in the middle", f"/jobs/{_id_of(middle_queued)}"),
        ("GET /jobs", "/jobs"),
        ("GET /jobs, half of it passed", f"/jobs?after={_id_of(deep)}"),
        *((f"GET /jobs?{query}", f"/jobs?{query}") for query in [*filters, *labels, *rows]),
        ("GET /queue", "/queue"),
        ("GET /queue, half of it passed", f"/queue?after={_id_of(middle_queued)}"),
    ]


def _id_of(number: int) -> str:
    return f"job_{number:026d}"


def _state_of(number: int) -> str:
    return "running" if number % 100 == 0 else ("queued", "succeeded", "failed")[number % 3]


def _fill(database: Database, begin: int, end: int) -> None:
    with database.writing() as session:
        for first in range(begin, end, 5000):
            numbers = range(first, min(end, first + 5000))
            session.execute(insert(Job), [_row_of(number) for number in numbers])
            session.execute(insert(JobLabel), [_label_of(number) for number in numbers])
            session.execute(insert(JobEvent), [_event_of(number) for number in numbers])
        for number in range(max(begin, end - 1000), end):  # the jobs on a page of rows
            if _state_of(number) != "queued":
                session.execute(insert(JobMetric), _points_of(number))
    settle(database)


def _team_of(number: int) -> str:
    return "rare" if number % 1000 == 0 else "vision"


def _row_of(number: int) -> dict[str, Any]:
    at, state = 1.7e9 + number, _state_of(number)
    running, waits = state == "running", state == "queued"
    return {
        "id": _id_of(number), "owner": "local", "dataset_id": "ds_digits", "recipe": "quick", "config": CONFIG,
        "seed": 1, "labels": {"team": _team_of(number)}, "state": state, "desired": "run", "not_before": 0.0,
        "max_failures": 3, "event_seq": 1, "attempt": 0 if waits else 1, "created_at": at, "queued_at": at,
        "started_at": None if waits else at, "finished_at": None if running or waits else at,
        "lease_owner": "wrk_bench" if running else None, "lease_expires_at": 4e9 if running else None,
    }  # fmt: skip


def _label_of(number: int) -> dict[str, Any]:
    digest = digest_of("team", _team_of(number))
    return {"job_id": _id_of(number), "digest": digest, "owner": "local", "created_at": 1.7e9 + number}


def _event_of(number: int) -> dict[str, Any]:
    return {
        "job_id": _id_of(number), "seq": 1, "at": 1.7e9, "type": "state", "state": "queued", "reason": "submitted",
        "lease_epoch": 0, "data": {},
    }  # fmt: skip


def _points_of(number: int) -> list[dict[str, Any]]:
    of_job = {"job_id": _id_of(number), "kind": "interval", "epoch": 0, "lease_epoch": 1, "at": 1.7e9}
    return [
        of_job | {"step": 10 * place, "data": {"train_loss": 1 / place, "lr": 0.1, "images_per_s": 1000.0}}
        for place in range(1, POINTS + 1)
    ]


if __name__ == "__main__":
    main()
