"""Measures how long a job waits for its first step on an idle yard, and how long a new yard takes to be ready.

    .venv/bin/python bench/first_step.py [JOBS] [--warm-up 8]

Starts a yard in a temporary folder and sends one-epoch jobs one after the other. Each is sent when the trainer for it
has had time to warm up. The baseline is `--warm-up 0`: each is sent as soon as the one before has ended, so that some
find no warm trainer. Prints the seconds from a job's commit to the end of its first optimiser step, by the database's
clock.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from sqlalchemy import select

from trainyard.client import Client
from trainyard.database.connection import Database
from trainyard.database.tables import Job, JobEvent
from trainyard.launch.yard import Yard
from trainyard.settings import Settings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", type=int, nargs="?", default=30, help="how many (default 30)")
    parser.add_argument("--warm-up", type=float, default=8.0, help="seconds before each job (default 8)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        settings = Settings(data_dir=Path(folder), port=0, admin_key=None, redis_url=None, database_url=None)
        with Yard(settings) as yard, Client(yard.url) as client:
            print(f"fresh folder to ready: {time.monotonic() - began:.2f} s", flush=True)
            for _ in range(given.jobs):
                time.sleep(given.warm_up)
                job = client.create_job("digits", overrides={"epochs": 1})
                client.wait(job["id"], timeout_s=120)
            waits = _list_waits(Database(settings.sqlalchemy_url))
    print(f"POST to first step, {len(waits)} jobs: {' '.join(f'{wait:.2f}' for wait in waits)} s")
    if len(waits) > 1:
        p95 = statistics.quantiles(waits, n=20, method="inclusive")[18]
        print(f"p50 {statistics.median(waits):.2f} s, p95 {p95:.2f} s, worst {max(waits):.2f} s")


def _list_waits(database: Database) -> list[float]:
    query = (
        select(JobEvent.at - Job.created_at)
        .join(Job, Job.id == JobEvent.job_id)
        .where(JobEvent.reason == "first_step")
        .order_by(Job.created_at)
    )
    with database.reading() as session:
        return [float(wait) for wait in session.scalars(query)]


if __name__ == "__main__":
    main()
