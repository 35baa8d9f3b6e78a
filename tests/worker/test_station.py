"""A worker process as a whole, without Celery and without trainers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.api.served import wait_until
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.scheduling.workers import count_live
from trainyard.settings import Settings
from worker import station
from worker.station import Station


class NoTrainers:
    """Stands where `WarmTrainers` would."""

    def __init__(self, threads: int) -> None:
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
    assert worker._trainers.is_started  # type: ignore[attr-defined]
    database.close()
