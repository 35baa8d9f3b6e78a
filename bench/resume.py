"""Measures how soon a job makes its next step if it is paused at its first step and resumed at once.

    .venv/bin/python bench/resume.py [JOBS]

This is the worst moment for a pause, because the trainer for the next attempt has just begun to load torch. Starts a
yard in a temporary folder, and prints the seconds from the resume to the end of the next optimiser step, by the
database's clock.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import select

from trainyard.client import Client
from trainyard.database.connection import Database
from trainyard.database.tables import JobEvent
from trainyard.launch.yard import Yard
from trainyard.settings import Settings

LONG = {"epochs": 500}
PATIENCE_S = 120.0


def main(num_jobs: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), port=0, admin_key=None, redis_url=None, database_url=None)
        with Yard(settings) as yard, Client(yard.url) as client:
            database = Database(settings.sqlalchemy_url)
            waits = [measure(client, database) for _ in range(num_jobs)]
    print(f"resume to next step, {num_jobs} jobs: {' '.join(f'{wait:.2f}' for wait in waits)} s")
    print(f"median {statistics.median(waits):.2f} s, worst {max(waits):.2f} s")


def measure(client: Client, database: Database) -> float:
    job_id = client.create_job("digits", overrides=LONG)["id"]
    wait_for(lambda: find_moment(database, job_id, "first_step", 1))
    client.pause_job(job_id)
    wait_for(lambda: client.get_job(job_id)["state"] == "paused")
    client.resume_job(job_id)
    stepped_at = wait_for(lambda: find_moment(database, job_id, "first_step", 2))
    resumed_at = find_moment(database, job_id, "resumed", 1)
    client.cancel_job(job_id)
    client.wait(job_id, timeout_s=PATIENCE_S)
    time.sleep(8)  # the trainer of the next job warms up
    assert resumed_at is not None
    return stepped_at - resumed_at


def find_moment(database: Database, job_id: str, reason: str, lease_epoch: int) -> float | None:
    """Return when something first happened under a lease."""
    query = select(JobEvent.at).where(
        JobEvent.job_id == job_id, JobEvent.reason == reason, JobEvent.lease_epoch == lease_epoch
    )
    with database.reading() as session:
        return session.scalar(query.order_by(JobEvent.seq).limit(1))


def wait_for(look: Callable[[], float | None]) -> float:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := look()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return found


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
