from __future__ import annotations

import math
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.tables import JobMetric
from trainyard.jobs.metrics import MIN_POINTS, read_thinned
from trainyard.states import MetricKind


def fill(database: Database, job_id: str, values: list[tuple[float | None, float | None]]) -> None:
    with database.writing() as session:
        session.execute(delete(JobMetric))
        rows = [
            {"job_id": job_id, "kind": "epoch", "step": 3 * i, "epoch": i, "lease_epoch": 1, "at": 0.0,
             "data": {"train_loss": loss, "val_loss": loss, "val_top1": top1}}
            for i, (loss, top1) in enumerate(values)
        ]  # fmt: skip
        if rows:
            session.execute(insert(JobMetric), rows)


def test_of_several_best_epochs_a_thinned_series_keeps_the_one_with_the_lowest_loss(database: Database) -> None:
    job_id = db_rows.submit(database)
    losses = {23: None, 37: 0.8, 41: 0.7, 53: 0.7}
    fill(database, job_id, [(losses.get(i, 0.5), 1.0 if i in losses else 0.9) for i in range(100)])
    with database.reading() as session:
        points, _ = read_thinned(session, job_id, MetricKind.EPOCH, since=0, max_points=MIN_POINTS)
    assert 41 in [point["epoch"] for point in points]


numbers = st.none() | st.floats(-1e6, 1e6).map(lambda value: round(value, 3))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.tuples(numbers, numbers), max_size=20)
    | st.lists(st.tuples(numbers, numbers), min_size=90, max_size=120),
    max_points=st.integers(MIN_POINTS, 40),
    since=st.integers(0, 100),
)
def test_a_thinned_series_keeps_first_last_and_best(
    database: Database, values: list[tuple[float | None, float | None]], max_points: int, since: int
) -> None:
    job_id = db_rows.submit(database)
    fill(database, job_id, values)
    with database.reading() as session:
        points, is_long = read_thinned(session, job_id, MetricKind.EPOCH, since=since, max_points=max_points)
    whole = [(3 * i, *pair) for i, pair in enumerate(values) if 3 * i >= since]
    count = len(whole)
    assert is_long == (count > max_points)
    steps = [point["step"] for point in points]
    assert steps == sorted(set(steps))
    assert set(steps) <= {step for step, _, _ in whole}
    if count <= max_points:
        assert len(points) == count
        return
    assert max_points / 2 - 4 <= len(points) <= max_points
    assert (steps[0], steps[-1]) == (whole[0][0], whole[-1][0])
    gaps = [later - step for step, later in pairwise(steps)]
    assert max(gaps) <= 3 * math.ceil(count / (max_points - 4)) + 3
    losses = [loss for _, loss, _ in whole if loss is not None]
    tops = [top1 for _, _, top1 in whole if top1 is not None]
    if losses:
        assert min(losses) in [point["val_loss"] for point in points]
    if tops:
        assert max(tops) in [point["val_top1"] for point in points]


@pytest.mark.parametrize("kind", MetricKind)
def test_a_job_without_points(database: Database, kind: MetricKind) -> None:
    with database.reading() as session:
        assert read_thinned(session, db_rows.submit(database), kind, since=0, max_points=MIN_POINTS) == ([], False)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    losses=st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=90),
    since=st.integers(0, 60),
    length=st.none() | st.integers(0, 200),
)
def test_a_band_holds_every_loss_between_the_points(
    database: Database, losses: list[float | None], since: int, length: int | None
) -> None:
    job_id = db_rows.submit(database)
    fill(database, job_id, [(loss, None) for loss in losses])
    until = None if length is None else since + length
    with database.reading() as session:
        points, _ = read_thinned(
            session, job_id, MetricKind.EPOCH, since=since, until=until, max_points=MIN_POINTS, band=True
        )
    wanted = {3 * i: loss for i, loss in enumerate(losses) if since <= 3 * i <= (math.inf if until is None else until)}
    assert {point["step"] for point in points} <= set(wanted)
    ends = [point["step"] for point in points[1:]] + [math.inf]
    for point, end in zip(points, ends, strict=False):
        held = [loss for step, loss in wanted.items() if point["step"] <= step < end and loss is not None]
        low, high = point["train_loss_min"], point["train_loss_max"]
        assert (low is None) == (high is None)
        assert not held or (low is not None and low <= min(held) and max(held) <= high)
    assert not points or (points[0]["step"], points[-1]["step"]) == (min(wanted), max(wanted))
