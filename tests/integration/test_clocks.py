"""Clocks that are hours wrong or set while jobs run, with real processes: leases follow the database's and no other."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import select

from tests.integration.fleet import SLOW, Gather, find_faketime, wait_for
from tests.postgres import create_database, serving
from trainyard.database.tables import Worker

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.chaos,
    pytest.mark.postgres,
    pytest.mark.skipif(find_faketime() is None, reason="needs `faketime` (Debian: apt-get install faketime)"),
]

TTL_S = 4.0
TIMES = {"lease_ttl_s": TTL_S, "reaper_s": 1.0, "tick_s": 0.5, "backoff_s": 0.1, "recovery_every_s": 0.5}


def test_workers_and_a_reconciler_whose_clocks_are_wrong_steal_nothing_and_keep_nothing(
    gather: Gather, postgres_url: str
) -> None:
    fleet = gather(database_url=create_database(postgres_url), idle_poll_s=0.5, **TIMES)
    right = fleet.start_worker()
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.job(job_id).latest_checkpoint_id)
    ahead = fleet.start_worker(clock="+2h")
    told_at = re.findall(r'"at": "([^"]+)"', fleet.log(ahead))
    assert datetime.fromisoformat(told_at[0]).timestamp() > time.time() + 7000, "its clock is wrong indeed"
    reconciler = fleet.start_reconciler(clock="+2h")  # it takes back what has expired, also for the others
    seen_from = fleet.now()
    wait_for(lambda: fleet.now() > seen_from + 2 * TTL_S)
    job = fleet.job(job_id)
    assert (job.lease_owner, job.lease_epoch, job.failures) == (fleet.worker_id(right), 1, 0), "nothing was stolen"

    right.kill()
    wait_for(lambda: fleet.has_event(job_id, "first_step", 2))
    assert fleet.job(job_id).lease_owner == fleet.worker_id(ahead)
    behind = fleet.start_worker(clock="-2h")
    seen_from = fleet.now()
    wait_for(lambda: fleet.now() > seen_from + 2 * TTL_S)
    assert fleet.job(job_id).lease_epoch == 2, "a worker in the future keeps its lease"

    ahead.kill()
    wait_for(lambda: fleet.has_event(job_id, "first_step", 3))
    assert fleet.job(job_id).lease_owner == fleet.worker_id(behind), "and a lease of the future ends with its worker"
    step = fleet.job(job_id).committed_step
    wait_for(lambda: fleet.job(job_id).committed_step > step)
    assert fleet.job(job_id).lease_epoch == 3
    assert reconciler.poll() is None
    moments = [event.at for event in fleet.events(job_id)]
    assert moments == sorted(moments)
    assert abs(fleet.now() - time.time()) < 600
    with fleet.database.reading() as session:
        seen = session.scalars(select(Worker.last_seen_at)).all()
    assert all(abs(moment - time.time()) < 600 for moment in [*moments, *seen]), "no wrong clock is in the database"


class ServerClock:
    """How wrong a database server's clock is, which can be changed while it runs."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "clock"
        self.set("+0")
        self.environment = {
            "LD_PRELOAD": str(find_faketime()), "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_NO_CACHE": "1",
            "FAKETIME_TIMESTAMP_FILE": str(self._path),
        }  # fmt: skip

    def set(self, offset: str) -> None:
        new = self._path.with_suffix(".new")
        new.write_text(offset)
        new.replace(self._path)


@pytest.fixture
def server_clock() -> Iterator[ServerClock]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # the server is another user
        yield ServerClock(Path(folder))


def test_a_databases_clock_that_is_set_costs_no_job_its_attempt_and_keeps_no_dead_workers_lease(
    gather: Gather, server_clock: ServerClock
) -> None:
    with serving(settings=None, **server_clock.environment) as url:
        fleet = gather(database_url=create_database(url), idle_poll_s=0.5, **TIMES)
        first = fleet.start_worker()
        job_id = fleet.submit(SLOW)
        wait_for(lambda: fleet.job(job_id).latest_checkpoint_id)

        server_clock.set("+2h")
        wait_for(lambda: fleet.now() > time.time() + 7000)
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() > begun + 3 * TTL_S)
        job = fleet.job(job_id)
        assert (job.state, job.lease_epoch, job.failures) == ("running", 1, 0), "every lease looked long expired"
        assert job.heartbeat_at is not None
        assert job.heartbeat_at > time.time() + 7000

        first.kill()
        first.wait()
        server_clock.set("+0")
        second = fleet.start_worker()
        wait_for(lambda: fleet.job(job_id).lease_owner == fleet.worker_id(second))
        assert fleet.job(job_id).lease_epoch == 2
        assert "lease_lost" in [event.reason for event in fleet.events(job_id)]
        fleet.stop()
