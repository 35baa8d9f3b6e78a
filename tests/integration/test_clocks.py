"""Machines whose clocks are hours wrong, with real processes: leases follow the database's clock and no other."""

from __future__ import annotations

import re
import time
from datetime import datetime

import pytest
from sqlalchemy import select

from tests.integration.fleet import SLOW, Gather, find_faketime, wait_for
from tests.postgres import create_database
from trainyard.tables import Worker

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.chaos,
    pytest.mark.postgres,
    pytest.mark.skipif(find_faketime() is None, reason="needs `faketime` (Debian: apt-get install faketime)"),
]

TTL_S = 4.0


def test_workers_and_a_reconciler_whose_clocks_are_wrong_steal_nothing_and_keep_nothing(
    gather: Gather, postgres_url: str
) -> None:
    times = {"lease_ttl_s": TTL_S, "reaper_s": 1.0, "tick_s": 0.5, "backoff_s": 0.1, "recovery_every_s": 0.5}
    fleet = gather(database_url=create_database(postgres_url), idle_poll_s=0.5, **times)
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
    with fleet.books.reading() as session:
        seen = session.scalars(select(Worker.last_seen_at)).all()
    assert all(abs(moment - time.time()) < 600 for moment in [*moments, *seen]), "no wrong clock is in the books"
