"""A database that takes no writes for a while, as in a failover: nobody dies of it, and no job pays for it."""

from __future__ import annotations

import time

import httpx
import pytest

from tests.api.served import error_of
from tests.integration.fleet import FAST, SLOW, Gather, wait_for
from tests.integration.test_database_away import newest_step
from tests.postgres import create_database, read_only

pytestmark = [pytest.mark.end_to_end, pytest.mark.postgres, pytest.mark.slow]

TTL_S = 2.0
TIMES = {"lease_ttl_s": TTL_S, "reaper_s": 1.0, "tick_s": 0.25, "recovery_every_s": 0.5, "backoff_s": 0.1}


def test_training_goes_on_and_requests_wait_while_the_server_is_read_only(gather: Gather, postgres_url: str) -> None:
    """One failure would end the job: none of the windows, each longer than a lease, may count as one."""
    fleet = gather(database_url=create_database(postgres_url), max_failures=1, **TIMES)
    worker = fleet.start_worker()
    with httpx.Client(base_url=fleet.start_api(), trust_env=False, timeout=20) as api:
        job_id = fleet.submit(SLOW)
        wait_for(lambda: fleet.job(job_id).latest_checkpoint_id)
        for _ in range(3):
            with read_only(postgres_url):
                step, began = newest_step(fleet, job_id), time.monotonic()
                unready = api.get("/readyz")
                assert (unready.status_code, unready.json()["status"]) == (503, "not_ready")
                assert unready.json()["database"] == "read_only"
                refused = api.post("/jobs", json={"dataset": "digits", "overrides": FAST})
                error_of(refused, 503, "database_unavailable")
                assert int(refused.headers["retry-after"]) > 0
                error_of(api.post(f"/jobs/{job_id}/cancel"), 503, "database_unavailable")
                assert api.get(f"/jobs/{job_id}").json()["state"] == "running"
                assert api.get("/healthz").status_code == 200
                wait_for(lambda: newest_step(fleet, job_id) > step)  # noqa: B023
                time.sleep(max(0.0, began + 1.5 * TTL_S - time.monotonic()))
            step = newest_step(fleet, job_id)
            wait_for(lambda: fleet.job(job_id).committed_step > step)  # noqa: B023
            wait_for(lambda: api.get("/readyz").status_code == 200)
        job = fleet.job(job_id)
        assert (job.state, job.attempt, job.lease_epoch, job.failures) == ("running", 1, 1, 0)
        assert worker.poll() is None
        assert len(api.get("/jobs").json()["data"]) == 1, "what was refused is not there"
