"""Reads whose cost does not grow with the number of jobs or points: what they find, and by which plan."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, event, func, insert, select, text
from sqlalchemy.orm import Session

from tests.trainyard import rows as db_rows
from trainyard.artifacts import deletion
from trainyard.database import schema
from trainyard.database.connection import Database, read_clock
from trainyard.database.ids import new_id
from trainyard.database.tables import Job, JobEvent, JobLabel, JobMetric, Outbox
from trainyard.jobs import job_list, jobs
from trainyard.jobs.job_list import JobFilter
from trainyard.jobs.metadata_index import digest_of
from trainyard.jobs.metrics import read_thinned
from trainyard.scheduling import queue_view
from trainyard.scheduling.claim_order import FIRST_FETCH, Turn, list_behind
from trainyard.states import MetricKind, ShownState

FAR = 1e10


def fill(database: Database, *rows: dict[str, Any]) -> list[str]:
    """Jobs and their labels straight into the tables."""
    db_rows.submit(database)
    usual: dict[str, Any] = {
        "owner": "local", "dataset_id": "ds_digits", "recipe": "quick", "config": {}, "seed": 1, "labels": {},
        "state": "queued", "desired": "run", "not_before": 0.0, "max_failures": 3, "created_at": 1.0, "queued_at": 1.0,
        "priority": 0, "lease_owner": None, "lease_expires_at": None, "finished_at": None,
    }  # fmt: skip
    full = [usual | {"id": new_id("job")} | row for row in rows]
    with database.writing() as session:
        for table in (JobEvent, Outbox, JobLabel, Job):
            session.execute(delete(table))
        session.execute(insert(Job), full)
        pairs = [(row, pair) for row in full for pair in row["labels"].items()]
        if pairs:
            session.execute(insert(JobLabel), [
                {"job_id": row["id"], "digest": digest_of(*pair), "owner": row["owner"],
                 "created_at": row["created_at"]} for row, pair in pairs
            ])  # fmt: skip
        session.execute(text("ANALYZE"))
    return [row["id"] for row in full]


@contextmanager
def plans_of(database: Database) -> Iterator[list[str]]:
    """Collects, at the block's end, how the database carries out the queries that were made in it."""
    made: list[tuple[str, Any]] = []
    plans: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: object) -> None:
        made.append((statement, parameters))

    event.listen(database.engine, "before_cursor_execute", note)
    try:
        yield plans
    finally:
        event.remove(database.engine, "before_cursor_execute", note)
    with database.engine.connect() as connection:
        explain = "EXPLAIN QUERY PLAN" if connection.dialect.name == "sqlite" else "EXPLAIN"
        for statement, parameters in made:
            if statement.lstrip().upper().startswith(("SELECT", "WITH")):
                plans += [str(row[-1]) for row in connection.exec_driver_sql(f"{explain} {statement}", parameters)]


def whole_tables_in(plans: list[str], *tables: str) -> list[str]:
    """The lines that read a whole table or sort what they found."""
    reads = [f"{word} {table}" for table in tables for word in ("SCAN", "Seq Scan on")]
    return [
        line for line in plans if any(read in line for read in reads) or "USE TEMP B-TREE" in line or "Sort" in line
    ]


# --- lists of jobs ---


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (JobFilter(), 20),
        (JobFilter(states=[ShownState.PAUSED]), 0),
        (JobFilter(states=[ShownState.QUEUED]), 20),
        (JobFilter(states=[ShownState.FAILED]), 3),
        (JobFilter(states=[ShownState.CANCELLING]), 0),
        (JobFilter(dataset_id="ds_none"), 0),
        (JobFilter(dataset_id="ds_digits"), 20),
        (JobFilter(metadata={"team": "rare"}), 3),
        (JobFilter(metadata={"team": "usual"}), 20),
        (JobFilter(metadata={"team": "rare", "run": "1"}), 1),
        (JobFilter(states=[ShownState.FAILED], metadata={"team": "rare"}), 3),
    ],
)
def test_no_list_looks_through_all_jobs(database: Database, filters: JobFilter, expected: int) -> None:
    rows: list[dict[str, Any]] = [
        {"created_at": float(number), "labels": {"team": "usual", "run": str(number // 1000)}} for number in range(3000)
    ]
    for row in rows[7::1000]:
        row |= {"state": "failed", "finished_at": 1.0, "labels": row["labels"] | {"team": "rare"}}
    made = fill(database, *rows)
    with plans_of(database) as plans, database.reading() as session:
        first = job_list.list_jobs(session, "local", limit=20, wanted=filters)
        last = job_list.list_jobs(session, "local", limit=20, after=made[500], wanted=filters)
    assert len(first.items) == expected
    assert [made.index(job.id) for job in first.items] == sorted(
        (made.index(job.id) for job in first.items), reverse=True
    )
    assert all(made.index(job.id) < 500 for job in last.items)
    assert whole_tables_in(plans, "jobs", "job_labels") == [], plans


def test_metadata_of_any_text_is_found_and_no_other(database: Database) -> None:
    strange = {'a"b': "x", "a'b": "$", "a.b[0]": "é\n", "": "e", "a": '"b": "c"', "%": "_"}
    job_id, other = db_rows.submit(database, metadata=strange), db_rows.submit(database, metadata={"a": "b"})
    with database.reading() as session:
        for key, value in strange.items():
            assert [
                job.id
                for job in job_list.list_jobs(session, "local", limit=9, wanted=JobFilter(metadata={key: value})).items
            ] == [job_id]
            assert job_list.list_jobs(session, "local", limit=9, wanted=JobFilter(metadata={value: key})).items == []
            assert job_list.list_jobs(session, "alice", limit=9, wanted=JobFilter(metadata={key: value})).items == []
        found = job_list.list_jobs(session, "local", limit=9, wanted=JobFilter(metadata={"a": "b"}))
    assert [job.id for job in found.items] == [other]


def test_a_list_by_metadata_goes_on_after_any_job_of_the_owner(database: Database) -> None:
    made = [db_rows.submit(database, metadata={"even": str(number % 2)}) for number in range(6)]
    with database.reading() as session:
        page = job_list.list_jobs(session, "local", limit=2, wanted=JobFilter(metadata={"even": "0"}))
        assert ([job.id for job in page.items], page.has_more) == ([made[4], made[2]], True)
        page = job_list.list_jobs(session, "local", limit=2, wanted=JobFilter(metadata={"even": "0"}), after=made[3])
        assert ([job.id for job in page.items], page.has_more) == ([made[2], made[0]], False)


def test_a_deleted_job_leaves_no_labels(database: Database) -> None:
    job_id = db_rows.submit(database, metadata={"a": "b"})
    db_rows.act(database, jobs.cancel, job_id)
    with database.writing() as session:
        deletion.delete_job(session, "local", job_id)
        assert session.scalar(select(func.count()).select_from(JobLabel)) == 0


def test_jobs_of_before_are_found_by_their_metadata_and_points_by_their_loss(empty_url: str) -> None:
    database = Database(empty_url)

    def run(action: Callable[[Any, str], None], revision: str) -> None:
        with database.engine.connect().execution_options(trainyard_write=True) as connection:
            config = schema._config()
            config.attributes["connection"] = connection
            action(config, revision)
            connection.commit()

    run(command.upgrade, "head")
    made = [
        db_rows.submit(database, metadata={"team": "a"} | ({'q"': "é"} if number == 1 else {})) for number in range(3)
    ]
    made.append(db_rows.submit(database))
    losses: list[float | None] = [1.5, None, 0.25]
    with database.writing() as session:
        for step, loss in enumerate(losses):
            session.add(
                JobMetric(job_id=made[0], kind="interval", step=step, epoch=0, lease_epoch=1, at=0.0,
                          data={"train_loss": loss})
            )  # fmt: skip
    run(command.downgrade, "0003")
    run(command.upgrade, "head")
    with database.reading() as session:
        page = job_list.list_jobs(session, "local", limit=9, wanted=JobFilter(metadata={"team": "a"}))
        assert [job.id for job in page.items] == made[2::-1]
        page = job_list.list_jobs(session, "local", limit=9, wanted=JobFilter(metadata={'q"': "é"}))
        assert [job.id for job in page.items] == [made[1]]
        assert session.scalar(select(func.count()).select_from(JobLabel)) == 4
        assert list(session.scalars(select(JobMetric.train_loss).order_by(JobMetric.step))) == losses
    database.close()


# --- the queue ---


def whole_queue(database: Database, size: int) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    after = None
    while True:
        with database.reading() as session:
            page = queue_view.list_queue(session, "local", limit=size, after=after, max_running_per_owner=None)
        found += [(entry.job.id, entry.position) for entry in page.items]
        if not page.has_more:
            return found
        after = found[-1][0]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.fixed_dictionaries({
            "priority": st.integers(-1, 1), "queued_at": st.integers(1, 3).map(float),
            "not_before": st.sampled_from([0.0, 0.0, FAR, FAR + 1]),
        }),
        min_size=1, max_size=12,
    ),
    size=st.integers(1, 5),
)  # fmt: skip
def test_a_sole_owners_pages_are_the_walk(database: Database, rows: list[dict[str, Any]], size: int) -> None:
    fill(database, *({"id": f"job_{number:026d}"} | row for number, row in enumerate(rows)))
    with database.reading() as session:
        walk = [turn.job_id for turn in queue_view.walk(session, read_clock(session), None)]
        outlook = queue_view.get_outlook(session, ["local"], None)
        assert outlook.sole_owner == "local"
        expected = {job_id: position for position, job_id in enumerate(walk, start=1)}
        for job in session.scalars(select(Job)).all():
            assert queue_view.find_positions(session, [job], outlook) == {job.id: expected[job.id]}
    assert whole_queue(database, size) == list(expected.items())


def test_a_deep_page_of_a_sole_owner_reads_that_page(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    made = fill(database, *({"queued_at": float(number), "priority": -(number // 1500)} for number in range(3000)))
    monkeypatch.setattr(queue_view, "walk", None)  # from the front
    read: list[int] = []

    def follow(*given: Any) -> list[Turn]:
        found = list_behind(*given)
        read.append(len(found))
        return found

    monkeypatch.setattr(queue_view, "list_behind", follow)
    with plans_of(database) as plans, database.reading() as session:
        page = queue_view.list_queue(session, "local", limit=20, after=made[2499], max_running_per_owner=None)
    assert [(entry.job.id, entry.position) for entry in page.items] == [(made[n], n + 1) for n in range(2500, 2520)]
    assert sum(read) <= FIRST_FETCH
    if database.engine.dialect.name == "sqlite":  # PostgreSQL reads a small table whole where it counts half of it
        assert whole_tables_in(plans, "jobs") == [], plans


def test_only_the_owner_of_all_queued_jobs_is_sole(database: Database) -> None:
    def sole(session: Session) -> str | None:
        return queue_view.get_outlook(session, ["local"], None).sole_owner

    with database.reading() as session:
        assert sole(session) is None
    fill(database, {}, {"owner": "bob", "state": "failed", "finished_at": 1.0})
    with database.reading() as session:
        assert sole(session) == "local"
    fill(database, {}, {}, {"owner": "bob", "not_before": FAR})
    with database.reading() as session:
        assert sole(session) is None


def test_a_place_beyond_the_count_is_not_told(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(database, *({"id": f"job_{number:026d}", "priority": 9 - number // 2} for number in range(6)))
    monkeypatch.setattr(queue_view, "POSITIONS_WITHIN", 4)
    with database.reading() as session:
        outlook = queue_view.get_outlook(session, ["local"], None)
        rows = session.scalars(select(Job).order_by(Job.id)).all()
        told = [queue_view.find_positions(session, [job], outlook).get(job.id) for job in rows]
    assert told == [1, 2, 3, 4, None, None]


# --- series ---


def test_a_long_series_is_thinned_by_searches_alone(database: Database) -> None:
    job_id = db_rows.submit(database)
    with database.writing() as session:
        session.execute(insert(JobMetric), [
            {"job_id": job_id, "kind": "interval", "step": 7 * number, "epoch": 0, "lease_epoch": 1, "at": 0.0,
             "data": {"train_loss": 0.125 if number == 1234 else 1.0}}
            for number in range(3000)
        ])  # fmt: skip
        session.execute(text("ANALYZE"))
    with plans_of(database) as plans, database.reading() as session:
        points, is_long = read_thinned(session, job_id, MetricKind.INTERVAL, since=0, max_points=50)
    assert is_long
    steps = [point["step"] for point in points]
    assert 45 <= len(steps) <= 50
    assert {0, 7 * 1234, 7 * 2999} <= set(steps)
    if database.engine.dialect.name == "sqlite":  # PostgreSQL reads so small a table whole
        assert "step=?" in plans[-1], plans
        assert whole_tables_in(plans, "job_metrics") == [], plans


@pytest.mark.parametrize("loss", [None, "much", [1]])
def test_a_loss_that_is_no_number_is_not_the_lowest(database: Database, loss: object) -> None:
    job_id = db_rows.submit(database)
    with database.writing() as session:
        for step in range(20):
            data = {"train_loss": loss if step == 10 else 1.0}
            session.add(JobMetric(job_id=job_id, kind="interval", step=step, epoch=0, lease_epoch=1, at=0.0, data=data))
    with database.reading() as session:
        losses = list(session.scalars(select(JobMetric.train_loss).order_by(JobMetric.step)))
        assert losses == [1.0] * 10 + [None] + [1.0] * 9
        points, _ = read_thinned(session, job_id, MetricKind.INTERVAL, since=10, max_points=10)
    assert points[0]["step"] == 10
