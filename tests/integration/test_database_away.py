"""A database that is locked or frozen under a running job: training goes on, and nothing is lost or made twice."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path

import pytest
from sqlalchemy import select

from api.app import create_app
from tests.api.served import FakeRuntime, Served, error_of
from tests.integration.fleet import FAST, SLOW, Fleet, Gather, wait_for
from tests.postgres import create_database, frozen, server_pid
from tests.processes import children_of, is_alive
from trainyard.database.connection import Database
from trainyard.database.postgresql import ANSWER_WITHIN_S, PatientConnection
from trainyard.database.schema import migrate
from trainyard.database.tables import JobMetric
from trainyard.scheduling.queue import SilentWaker
from trainyard.settings import Settings

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

TTL_S = 2.0
TIMES = {"lease_ttl_s": TTL_S, "reaper_s": 1.0, "tick_s": 0.25, "recovery_every_s": 0.5, "backoff_s": 0.1}

Away = Callable[[], AbstractContextManager[object]]
Found = tuple[Fleet, Away]


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def found(request: pytest.FixtureRequest, gather: Gather) -> Callable[..., Found]:
    """A fleet, and what takes its database away."""

    def start(**settings: float) -> Found:
        if request.param == "sqlite":
            fleet = gather(**TIMES, **settings)
            return fleet, fleet.database.writing  # holds the one write lock
        server_url = request.getfixturevalue("postgres_url")
        return gather(database_url=create_database(server_url), **TIMES, **settings), lambda: frozen(
            server_pid(server_url)
        )

    return start


def newest_step(fleet: Fleet, job_id: str) -> int:
    """Of the checkpoints on disk, whatever the database knows."""
    folders = (fleet.folder / "checkpoints" / job_id).glob("[!.]*")
    return max((int(folder.name.split("-")[1]) for folder in folders), default=0)


def goes_on_through(found: Found, away_s: float) -> None:
    fleet, away = found
    fleet.start_worker()
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.job(job_id).latest_checkpoint_id)
    with away():
        step = newest_step(fleet, job_id)
        ends_at = time.monotonic() + away_s
        wait_for(lambda: newest_step(fleet, job_id) > step)  # the trainer goes on meanwhile
        while (left := ends_at - time.monotonic()) > 0:
            time.sleep(left)
    step = newest_step(fleet, job_id)
    wait_for(lambda: fleet.job(job_id).committed_step > step)
    job = fleet.job(job_id)
    assert (job.state, job.attempt, job.lease_epoch, job.failures) == ("running", 1, 1, 0)
    with fleet.database.reading() as session:
        query = select(JobMetric.step).where(JobMetric.job_id == job_id, JobMetric.kind == "interval")
        steps = list(session.scalars(query.order_by(JobMetric.step)))
    assert len({new - old for old, new in pairwise(steps)}) == 1, "its curve has no gap"


def test_a_job_goes_on_while_the_database_is_away_for_longer_than_its_lease(found: Callable[..., Found]) -> None:
    goes_on_through(found(), 2 * TTL_S)


@pytest.mark.chaos
def test_a_job_goes_on_while_the_database_is_away_for_half_a_minute(found: Callable[..., Found]) -> None:
    goes_on_through(found(), 30)


@pytest.mark.chaos
def test_a_worker_without_a_database_ends_its_trainer_by_itself_and_the_job_goes_on_later(
    found: Callable[..., Found],
) -> None:
    fleet, away = found(self_fence_s=3.0)
    worker = fleet.start_worker()
    job_id = fleet.submit(SLOW)
    wait_for(lambda: fleet.job(job_id).latest_checkpoint_id)
    trainers = children_of(worker.pid)
    with away():
        wait_for(lambda: not all(is_alive(pid) for pid in trainers))
        assert worker.poll() is None
    wait_for(lambda: fleet.has_event(job_id, "first_step", 2))
    started = [event.data for event in fleet.events(job_id) if event.type == "started"]
    assert started[1]["resumed_from"], "it goes on from its newest checkpoint"
    changes = [event.reason for event in fleet.events(job_id) if event.type == "state"]
    assert changes == ["submitted", "claimed", "lease_lost", "claimed"]


@pytest.mark.postgres
@pytest.mark.chaos
def test_requests_are_answered_503_while_the_server_is_frozen_and_work_again_after(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PatientConnection, "answer_within_s", ANSWER_WITHIN_S)
    settings = Settings(data_dir=tmp_path, database_url=create_database(postgres_url))
    database = Database(settings.sqlalchemy_url)
    migrate(database)
    app = create_app(settings, database=database, waker=SilentWaker(), runtime=FakeRuntime())
    served = Served(app, database, settings)
    served.http.timeout = 60
    try:
        job_id = served.add_job()
        with frozen(server_pid(postgres_url)):
            error_of(served.http.get(f"/jobs/{job_id}"), 503, "database_unavailable")
            refused = served.http.post("/jobs", json={"dataset": "digits", "overrides": FAST})
            error_of(refused, 503, "database_unavailable")
            assert int(refused.headers["retry-after"]) > 0
            assert served.http.get("/healthz").status_code == 200
        wait_for(lambda: served.http.get(f"/jobs/{job_id}").status_code == 200)
        assert len(served.http.get("/jobs").json()["data"]) == 1, "what was refused is not there"
    finally:
        served.stop()
        database.close()
