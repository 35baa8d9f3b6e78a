from __future__ import annotations

from typing import Any

from sqlalchemy import update

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.tables import Job, JobMetric
from trainyard.jobs import jobs
from trainyard.jobs.finished_runs import FinishedRun, list_finished_runs
from trainyard.scheduling import leases
from trainyard.states import EventType, MetricKind


def finish(database: Database, owner: str = "local", *, seconds: list[float], **times: Any) -> str:
    """A job that trained on a slot for so many seconds an epoch."""
    job_id = db_rows.submit(database, owner)
    lease = db_rows.claim(database)
    with database.writing() as session:
        leases.report_event(session, lease, EventType.STARTED, data={"device": "cuda:1"})
        for epoch, of_epoch in enumerate(seconds):
            data: dict[str, Any] = {"seconds": of_epoch, "train_loss": 1.0}
            point = {"job_id": job_id, "step": epoch, "epoch": epoch, "lease_epoch": 1, "at": 0.0, "data": data}
            session.add(JobMetric(kind=MetricKind.EPOCH, **point))
            session.add(JobMetric(kind=MetricKind.INTERVAL, **point))
        session.flush()
        leases.end_attempt(session, lease, leases.Ending(succeeded=True), first_backoff_s=1)
        if times:
            session.execute(update(Job).where(Job.id == job_id).values(**times))
    return job_id


def read(database: Database, owner: str = "local", limit: int = 50) -> list[FinishedRun]:
    with database.reading() as session:
        return list_finished_runs(session, owner, limit=limit)


def test_a_runs_time_is_that_of_its_epochs_and_what_is_around_them(database: Database) -> None:
    finish(database, seconds=[2.0, 3.0], started_at=1000.0, finished_at=1012.0)
    (run,) = read(database)
    assert (run.recipe, run.config, run.device) == ("quick", db_rows.CONFIG, "cuda:1")
    assert (run.epochs, run.epochs_s, run.around_s) == (2, 5.0, 7.0)


def test_what_several_attempts_took_is_not_known(database: Database) -> None:
    finish(database, seconds=[2.0], attempt=2)
    assert read(database)[0].around_s is None


def test_others_unfinished_and_unmeasured_runs_are_left_out(database: Database) -> None:
    finish(database, "bob", seconds=[1.0])
    finish(database, seconds=[])
    cancelled = db_rows.submit(database)
    with database.writing() as session:
        jobs.cancel(session, "local", cancelled)
    db_rows.submit(database)
    assert read(database) == []
    assert len(read(database, "bob")) == 1


def test_the_newest_come_first_and_the_rest_is_left_out(database: Database) -> None:
    for seconds in (1.0, 2.0, 3.0):
        finish(database, seconds=[seconds])
    assert [run.epochs_s for run in read(database, limit=2)] == [3.0, 2.0]
