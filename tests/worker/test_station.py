"""A worker process as a whole, without Celery and without trainers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm import Session

from tests.api.served import wait_until
from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.database.tables import Job, Worker
from trainyard.errors import DatabaseUnavailable
from trainyard.scheduling.leases import Ending, Lease, end_attempt
from trainyard.scheduling.workers import DeviceReading, count_live, readings_of
from trainyard.settings import Settings
from worker import station
from worker.machine import health
from worker.machine.health import is_any_healthy
from worker.station import Station


class NoTrainers:
    """Stands where `WarmTrainers` would."""

    def __init__(self, threads: int, *, keeps_spare: bool) -> None:
        self.is_started = False

    def start(self) -> None:
        self.is_started = True

    def want_spare(self) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Station]:
    monkeypatch.setattr(station, "WarmTrainers", NoTrainers)
    monkeypatch.setattr(station, "SIGN_OF_LIFE_S", 0.02)
    monkeypatch.setattr(Station, "_prepare_first_dataset", lambda self: None)
    made = Station(Settings(data_dir=tmp_path / "data", devices="cpu", slots=1))
    yield made
    made.close()
    made._database.close()


def test_a_worker_that_begins_while_the_database_does_not_answer_registers_later(
    worker: Station, tmp_path: Path
) -> None:
    worker.open()
    (tmp_path / "data").mkdir()  # only now there can be a database
    database = Database(f"sqlite:///{tmp_path / 'data' / 'trainyard.db'}")
    migrate(database)

    def is_live() -> bool:
        with database.reading() as session:
            return count_live(session) == 1

    wait_until(is_live)
    assert isinstance(worker._trainers, NoTrainers)
    assert worker._trainers.is_started
    database.close()


def test_a_job_whose_claim_was_written_while_the_answer_was_lost_is_run_by_the_worker_that_has_it(
    worker: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'data' / 'trainyard.db'}")
    migrate(database)
    job_id = db_rows.submit(database)
    worker._store.check()  # it writes, too
    ran: list[str] = []
    monkeypatch.setattr(worker._supervisor, "run", lambda job, lease, slot: ran.append(job.id))
    genuine = Session.commit

    def commit_and_lose_the_answer(session: Session) -> None:
        genuine(session)
        raise DatabaseUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(Session, "commit", commit_and_lose_the_answer)
        worker.work()
    assert db_rows.look(database, job_id).lease_owner == worker.identity.id
    assert ran == []
    monkeypatch.setattr(worker._supervisor, "run", _ending(database, ran))
    worker.work()
    assert ran == [job_id]
    assert db_rows.look(database, job_id).attempt == 1
    database.close()


def _ending(database: Database, ran: list[str]) -> Any:
    def run(job: Job, lease: Lease, slot: object) -> None:
        ran.append(job.id)
        with database.writing() as session:
            end_attempt(session, lease, Ending(succeeded=True), first_backoff_s=0)

    return run


def test_a_worker_beside_tables_of_another_release_takes_no_job_and_says_so_once(
    worker: Station, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "data").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'data' / 'trainyard.db'}")
    migrate(database)
    job_id = db_rows.submit(database)
    with db_rows.revision_of_tables(database, "9999"):
        for _ in range(3):
            worker.work()
    assert db_rows.look(database, job_id).state == "queued"
    said = [record.getMessage() for record in caplog.records if "takes no job" in record.getMessage()]
    assert len(said) == 1
    assert "newer release" in said[0]
    database.close()


def test_the_heartbeat_tells_how_full_and_how_busy_the_devices_are(
    worker: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    database = Database(f"sqlite:///{tmp_path / 'data' / 'trainyard.db'}")
    migrate(database)
    reading = DeviceReading("H100", 80_000, 9_100, 0.62)
    monkeypatch.setattr(worker._meter, "readings", lambda: [reading])

    def told() -> list[DeviceReading | None]:
        with database.reading() as session:
            return [told for row in session.scalars(select(Worker)) for told in readings_of(row)]

    worker.open()
    wait_until(lambda: told() == [reading])
    monkeypatch.setattr(worker._meter, "readings", lambda: [None])
    wait_until(lambda: told() == [None])
    database.close()


def test_a_worker_is_healthy_while_its_heartbeats_are_written_and_its_loop_turns(
    worker: Station, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data_dir = tmp_path / "data"
    monkeypatch.setattr(health, "HEALTHY_S", 0.5)
    worker.open()
    time.sleep(0.1)
    assert not is_any_healthy(data_dir), "no heartbeat was written yet: there is no database"
    data_dir.mkdir(exist_ok=True)
    database = Database(f"sqlite:///{data_dir / 'trainyard.db'}")
    migrate(database)
    wait_until(lambda: is_any_healthy(data_dir))
    monkeypatch.setattr(station, "STANDS_STILL_S", -1000.0)  # as if the loop had not turned for long
    wait_until(lambda: not is_any_healthy(data_dir))
    monkeypatch.setattr(station, "STANDS_STILL_S", 60.0)
    wait_until(lambda: is_any_healthy(data_dir))
    worker.close()
    assert not is_any_healthy(data_dir)
    database.close()
