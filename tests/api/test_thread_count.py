"""Predictions and insight compute with the same number of threads."""

from __future__ import annotations

from pathlib import Path

import pytest

from api.insight.insight import Insight
from api.thread_count import choose_threads
from trainyard.database.connection import Database
from trainyard.settings import Settings
from trainyard.storage.local import LocalStorage


@pytest.mark.parametrize(("cores", "threads"), [(None, 2), (1, 1), (2, 2), (3, 2), (4, 2), (16, 8)])
def test_half_of_the_cores_compute_but_two_if_there_are_two(
    monkeypatch: pytest.MonkeyPatch, cores: int | None, threads: int
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    assert choose_threads(None) == threads
    assert choose_threads(5) == 5


@pytest.mark.parametrize(("wanted", "threads"), [(None, 2), (3, 3)])
def test_insight_asks_the_same_rule(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, migrated_sqlite_file: Path, wanted: int | None, threads: int
) -> None:
    handed_on = []
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("api.insight.insight.InsightProcess", lambda **options: handed_on.append(options["threads"]))
    monkeypatch.setattr("api.insight.insight.InsightThread", lambda process: process)
    database = Database(f"sqlite:///{migrated_sqlite_file}")
    Insight(Settings(data_dir=tmp_path, serving_threads=wanted), database, LocalStorage(tmp_path))
    database.close()
    assert handed_on == [threads]
