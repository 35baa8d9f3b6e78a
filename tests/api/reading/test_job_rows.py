from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy.orm import Session

from api.reading import job_rows
from api.reading.job_rows import JobRows
from tests.trainyard import rows as db_rows
from tests.trainyard.jobs.test_sparklines import add_points
from trainyard.database.connection import Database
from trainyard.jobs import jobs
from trainyard.settings import Settings


def test_only_the_curve_of_an_ended_job_is_kept(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Sequence[str]] = []

    def read(session: Session, job_ids: Sequence[str]) -> dict[str, list[float]]:
        asked.append(job_ids)
        return {job_id: [1.0] for job_id in job_ids}

    monkeypatch.setattr(job_rows, "read_sparklines", read)
    ended, running, waiting = (db_rows.submit(database) for _ in range(3))
    for job_id in (ended, running):
        db_rows.write(database, job_id, attempt=1)
    db_rows.write(database, ended, state="failed", finished_at=1.0)
    rows = JobRows(Settings())
    for _ in range(2):
        with database.reading() as session:
            shown = rows.describe(session, jobs.read_jobs(session, "local", [ended, running, waiting]))
        assert {row.id: row.spark for row in shown} == {ended: [1.0], running: [1.0], waiting: []}
    assert [sorted(job_ids) for job_ids in asked] == [sorted([ended, running]), [running]]


def test_no_more_curves_are_kept_than_allowed(database: Database) -> None:
    made = [db_rows.submit(database) for _ in range(4)]
    rows = JobRows(Settings(), max_curves=2)
    for number, job_id in enumerate(made):
        db_rows.write(database, job_id, attempt=1, state="failed", finished_at=1.0)
        add_points(database, job_id, {1: number + 0.123456})
    with database.reading() as session:
        shown = rows.describe(session, jobs.read_jobs(session, "local", made))
    assert {row.id: row.spark for row in shown} == {
        job_id: [float(f"{number + 0.123456:.4g}")] for number, job_id in enumerate(made)
    }
    assert len(rows._curves) == 2
