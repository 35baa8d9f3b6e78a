from __future__ import annotations

from itertools import pairwise

from sqlalchemy import insert

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.tables import JobMetric
from trainyard.jobs.sparklines import POINTS, read_sparklines


def add_points(database: Database, job_id: str, losses: dict[int, float | None], kind: str = "interval") -> None:
    rows = [
        {"job_id": job_id, "kind": kind, "step": step, "epoch": 0, "lease_epoch": 1, "at": 1.0,
         "data": {"train_loss": loss}}
        for step, loss in losses.items()
    ]  # fmt: skip
    with database.writing() as session:
        session.execute(insert(JobMetric), rows)


def read(database: Database, *job_ids: str) -> dict[str, list[float]]:
    with database.reading() as session:
        return read_sparklines(session, job_ids)


def test_a_short_series_is_whole_and_a_long_one_is_thinned_evenly(database: Database) -> None:
    short, long, one, empty = (db_rows.submit(database) for _ in range(4))
    add_points(database, short, {10: 3.0, 20: 2.0, 30: 1.0})
    add_points(database, short, {30: 9.0}, kind="epoch")
    add_points(database, long, {step: 1 / step for step in range(5, 5000, 5)})
    add_points(database, one, {7: 0.5})
    found = read(database, short, long, one, empty)
    assert found[short] == [3.0, 2.0, 1.0]
    assert (found[one], found[empty]) == ([0.5], [])
    steps = [round(1 / loss) for loss in found[long]]
    assert (len(steps), steps[0], steps[-1]) == (POINTS, 5, 4995)
    gaps = [later - earlier for earlier, later in pairwise(steps)]
    assert max(gaps) - min(gaps) <= 10


def test_steps_that_came_unevenly_and_losses_that_are_no_numbers_are_left_out(database: Database) -> None:
    job_id = db_rows.submit(database)
    add_points(database, job_id, {0: 4.0, 1: 3.0, 1000: 2.0, 1001: None})
    assert read(database, job_id)[job_id] == [4.0, 2.0]


def test_more_jobs_than_one_query_takes(database: Database) -> None:
    job_id = db_rows.submit(database)
    add_points(database, job_id, {1: 1.0})
    found = read(database, *(f"job_{number}" for number in range(1200)), job_id)
    assert len(found) == 1201
    assert [losses for losses in found.values() if losses] == [[1.0]]
