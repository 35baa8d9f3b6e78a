"""A standby that takes over under load: everybody finds it by themselves, and no job pays for it."""

from __future__ import annotations

import os
import re
import signal
import time

import httpx
import pytest
from sqlalchemy import text

from tests.integration.fleet import FAST, SLOW, Gather, wait_for
from tests.integration.test_database_away import newest_step
from tests.postgres import server_pid, serving, standing_by
from trainyard.database.connection import Database

pytestmark = [pytest.mark.end_to_end, pytest.mark.postgres, pytest.mark.chaos]

AWAY_S = 3.0  # until somebody notices, and promotes the standby
TIMES = {"lease_ttl_s": 2.0, "reaper_s": 1.0, "tick_s": 0.25, "recovery_every_s": 0.5, "backoff_s": 0.1}


def test_a_standby_takes_over_while_a_job_trains(gather: Gather, postgres_url: str) -> None:
    """One failure would end the job. What was answered with 202 before is there afterwards."""
    with serving(settings={"synchronous_commit": "on"}) as primary, standing_by(primary) as standby:
        fleet = gather(database_url=either_of(primary, standby), max_failures=1, **TIMES)
        worker = fleet.start_worker()
        with httpx.Client(base_url=fleet.start_api(), trust_env=False, timeout=30) as api:
            job_id = fleet.submit(SLOW)
            wait_for(lambda: fleet.job(job_id).latest_checkpoint_id)
            accepted = api.post("/jobs", json={"dataset": "digits", "overrides": FAST}).json()["id"]
            os.kill(server_pid(primary), signal.SIGQUIT)  # at once, as at a loss of power
            step = newest_step(fleet, job_id)
            time.sleep(AWAY_S)
            assert api.post("/jobs", json={"dataset": "digits", "overrides": FAST}).status_code == 503
            assert api.get("/readyz").status_code == 503
            promote(standby)
            wait_for(lambda: api.get("/readyz").status_code == 200)
            assert api.get(f"/jobs/{accepted}").json()["state"] == "queued"
            wait_for(lambda: fleet.job(job_id).committed_step > step)
            assert api.post("/jobs", json={"dataset": "digits", "overrides": FAST}).status_code == 202
            wait_for(lambda: fleet.job(job_id).committed_step > newest_step(fleet, job_id) - 5)
        job = fleet.job(job_id)
        assert (job.state, job.attempt, job.lease_epoch, job.failures) == ("running", 1, 1, 0)
        assert worker.poll() is None
        fleet.stop()  # before its database


def either_of(*urls: str) -> str:
    """As docs/how-to/use-postgresql-and-redis.md says it: whichever takes writes."""
    hosts = "&".join(f"host={found.group(1)}" for url in urls if (found := re.search(r"@([^/]+)/", url)))
    return f"postgresql+psycopg://trainyard@/postgres?{hosts}&target_session_attrs=read-write"


def promote(standby: str) -> None:
    database = Database(standby)
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        assert connection.scalar(text("SELECT pg_promote()"))
    database.close()
