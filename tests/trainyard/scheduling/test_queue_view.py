from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import select, update

from tests.trainyard import rows as db_rows
from tests.trainyard.scheduling.test_claim_order import BUSY, FAR, add_jobs, add_worker, pages
from trainyard.database.connection import Database
from trainyard.database.schema import newest_revision
from trainyard.database.tables import Job, Worker
from trainyard.errors import InvalidRequest
from trainyard.scheduling import claim_order, queue_view


@pytest.mark.parametrize(
    ("job", "limit", "expected"),
    [
        ({}, None, "a_free_slot"),
        ({}, 1, "owner_limit"),
        ({}, 2, "a_free_slot"),
        ({"not_before": FAR, "state_reason": "trainer_killed"}, 1, "retry_backoff"),
        ({"not_before": FAR, "state_reason": "disk_full"}, None, "disk_full"),
        ({"not_before": 1.0, "state_reason": "disk_full"}, None, "a_free_slot"),
    ],
)
def test_what_a_job_waits_for(database: Database, job: dict[str, Any], limit: int | None, expected: str) -> None:
    _, job_id = add_jobs(database, {"state": "running"} | BUSY, job)
    [before] = pages(database, "local", limit, 5)
    assert before.waits_for == "no_live_worker"
    add_worker(database)
    with database.writing() as session:
        session.execute(update(Worker).values(revision="0001"))
    [between] = pages(database, "local", limit, 5)
    assert between.waits_for == "no_worker_of_this_version"
    with database.writing() as session:
        session.execute(update(Worker).values(revision=newest_revision()))
    [entry] = pages(database, "local", limit, 5)
    assert (entry.job.id, entry.position, entry.waits_for) == (job_id, 1, expected)


def test_a_cursor_whose_job_left_the_queue_means_its_front(database: Database) -> None:
    first, second = add_jobs(database, {"queued_at": 1.0}, {"queued_at": 2.0})
    assert db_rows.try_claim(database) == first
    with database.reading() as session:
        page = queue_view.list_queue(session, "local", limit=5, after=first, max_running_per_owner=None)
        assert [entry.job.id for entry in page.items] == [second]
        for unknown in ("job_0", "\x00", first.replace("job", "ckpt")):
            with pytest.raises(InvalidRequest):
                queue_view.list_queue(session, "local", limit=5, after=unknown, max_running_per_owner=None)
        with pytest.raises(InvalidRequest):
            queue_view.list_queue(session, "bob", limit=5, after=second, max_running_per_owner=None)


def test_positions_are_told_as_far_as_is_counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    made = add_jobs(database, *({"queued_at": 1.0 + number} for number in range(5)))
    monkeypatch.setattr(queue_view, "POSITIONS_WITHIN", 3)
    monkeypatch.setattr(claim_order, "FIRST_FETCH", 1)
    with database.reading() as session:
        rows = list(session.scalars(select(Job)))
        outlook = queue_view.get_outlook(session, ["local"], None)
        assert queue_view.find_positions(session, rows, outlook) == dict(zip(made, (1, 2, 3), strict=False))
