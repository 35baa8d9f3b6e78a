from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy.orm import Session

from api.observability.yard_collector import YardCollector
from tests.trainyard.rows import counting_statements, submit
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable
from trainyard.settings import Settings


class Away(Database):
    """A database that does not answer."""

    def __init__(self) -> None:
        pass

    @contextmanager
    def reading(self) -> Iterator[Session]:
        raise DatabaseUnavailable
        yield


def collect(collector: YardCollector) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in collector.collect()
        for sample in family.samples
    }


def test_the_yard_is_told_with_every_kind_and_state(database: Database, tmp_path: Path) -> None:
    submit(database)
    found = collect(YardCollector(Settings(data_dir=tmp_path), database))
    assert found["trainyard_database_up", ()] == 1
    assert found["trainyard_jobs", ("train", "queued")] == 1
    assert found["trainyard_jobs", ("validate", "running")] == 0
    assert found["trainyard_workers", ("live",)] == 0
    assert found["trainyard_outbox_messages", ()] == 1
    assert found["trainyard_data_free_bytes", ()] > 0


def test_without_a_database_the_rest_is_told(tmp_path: Path) -> None:
    found = collect(YardCollector(Settings(data_dir=tmp_path), Away()))
    assert found["trainyard_database_up", ()] == 0
    assert not any(name == "trainyard_jobs" for name, _ in found)
    assert any(name == "trainyard_build_info" for name, _ in found)


def test_scrapes_that_come_together_read_the_database_once(database: Database, tmp_path: Path) -> None:
    collector = YardCollector(Settings(data_dir=tmp_path), database)
    with counting_statements(database) as statements:
        collect(collector)
        once = len(statements)
        collect(collector)
        assert len(statements) == once > 0
