from __future__ import annotations

import pytest

from alexnet_core.messages import AnyReport, Place
from tests.alexnet_core.reports import checkpoint_saved, progress
from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.jobs import jobs
from trainyard.states import Desired
from worker.report_writer import write_reports

PROGRESS = progress(10)


@pytest.mark.parametrize("comes_last", [True, False])
def test_a_commit_extends_the_lease_and_nothing_is_lost_on_either_side_of_it(
    database: Database, comes_last: bool
) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database, ttl_s=60)
    before = db_rows.look(database, job_id)
    with database.writing() as session:
        jobs.pause(session, db_rows.OWNER, job_id)
    saved = checkpoint_saved(10)
    reports: list[AnyReport] = [PROGRESS, saved] if comes_last else [saved, PROGRESS]
    with database.writing() as session, db_rows.counting_statements(database) as statements:
        desired = write_reports(session, lease, reports, keep_latest=2, ttl_s=600)
    after = db_rows.look(database, job_id)
    assert desired is Desired.PAUSE
    assert after.progress == PROGRESS.model_dump(include=set(Place.model_fields))
    assert before.lease_expires_at is not None
    assert after.lease_expires_at is not None
    assert after.lease_expires_at > before.lease_expires_at + 500
    assert len(db_rows.statuses(database)) == 1
    if database.engine.dialect.name == "postgresql":
        assert len(statements) == (2 if comes_last else 3)


def test_reports_without_a_checkpoint_extend_the_lease_by_a_heartbeat(database: Database) -> None:
    job_id = db_rows.submit(database)
    lease = db_rows.claim(database, ttl_s=60)
    before = db_rows.look(database, job_id)
    with database.writing() as session:
        assert write_reports(session, lease, [], keep_latest=2, ttl_s=600) is Desired.RUN
    after = db_rows.look(database, job_id)
    assert before.lease_expires_at is not None
    assert after.lease_expires_at is not None
    assert after.lease_expires_at > before.lease_expires_at + 500
