"""Measures how long it takes to read a job's series, thinned, with 1,000 and with 1,000,000 points.

    .venv/bin/python -m bench.series_reads [--requests 100] [--sizes 1000 1000000] [--database-url URL]

Starts an API on a temporary SQLite folder, or on the named empty PostgreSQL database, and requests `GET
/jobs/{id}/metrics` over one connection: 500 points (the default), 5,000 (the maximum), and the last hundred steps.
Prints milliseconds, median and 99th percentile, and the size of the answer. The baseline is the short series, which is
not thinned at 5,000 points.
"""

from __future__ import annotations

import argparse
import math
from typing import Any

from sqlalchemy import insert

from bench.serving import serving_api, settle, time_reads
from trainyard.artifacts import datasets
from trainyard.database.connection import Database
from trainyard.database.tables import JobMetric
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob

EVERY = 10  # steps between two points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100, help="of each kind (default 100)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 1_000_000], help="points of the series")
    parser.add_argument("--database-url", help="an empty PostgreSQL database; default: SQLite in a temporary folder")
    given = parser.parse_args()
    with serving_api(given.database_url) as (_, port, database):
        for size in given.sizes:
            job_id = _fill(database, size)
            print(f"{size} points")
            for query in ("", "?max_points=5000", f"?after={EVERY * (size - 100)}"):
                p50, p99, length = time_reads(port, f"/jobs/{job_id}/metrics{query}", given.requests)
                print(f"  {'metrics' + query:28} p50 {p50:7.1f}  p99 {p99:7.1f}  {length / 1000:7.0f} kB", flush=True)


def _fill(database: Database, size: int) -> str:
    with database.writing() as session:
        dataset = datasets.get_dataset(session, "local", "digits")
        new = NewJob(recipe="quick", config={"epochs": 3}, seed=1, max_failures=3)
        job_id = jobs.submit(session, "local", dataset, new).id
        for first in range(0, size, 20_000):
            numbers = range(first, min(size, first + 20_000))
            session.connection().execute(insert(JobMetric), [_row_of(job_id, number) for number in numbers])
    settle(database)
    return job_id


def _row_of(job_id: str, number: int) -> dict[str, Any]:
    loss = 2.3 / (1 + number / 1e4) + 0.1 * abs(math.sin(number))
    return {
        "job_id": job_id, "kind": "interval", "step": EVERY * (number + 1), "epoch": number // 20, "lease_epoch": 1,
        "at": 1.7e9 + number, "data": {"train_loss": loss, "lr": 0.01, "images_per_s": 2500.0}, "train_loss": loss,
    }  # fmt: skip


if __name__ == "__main__":
    main()
