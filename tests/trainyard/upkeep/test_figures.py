from __future__ import annotations

from sqlalchemy import update

from tests.trainyard.rows import OWNER, claim, commit, submit, write
from trainyard.artifacts.checkpoints import get_latest
from trainyard.database.connection import Database, now
from trainyard.database.tables import NOT_YET, Outbox
from trainyard.jobs import jobs
from trainyard.scheduling import workers
from trainyard.scheduling.workers import WorkerIdentity
from trainyard.upkeep.figures import YardFigures, read_figures


def figures(database: Database) -> YardFigures:
    with database.reading() as session:
        return read_figures(session)


def test_an_empty_yard_has_every_figure(database: Database) -> None:
    empty = figures(database)
    assert set(empty.jobs.values()) == {0}
    assert {("train", "queued"), ("validate", "failed")} <= set(empty.jobs)
    assert (empty.oldest_queued_s["train"], empty.images_per_s, empty.outbox, empty.oldest_outbox_s) == (0, 0, 0, 0)
    assert empty.workers == {"live": 0, "draining": 0, "lost": 0, "stopped": 0}
    assert (empty.slots, empty.slots_busy, empty.publication) == (0, 0, 0)


def test_the_figures_are_those_of_the_rows(database: Database) -> None:
    with database.writing() as session:
        for name in ("wrk_a", "wrk_b"):
            workers.register(session, WorkerIdentity(name, "host", 1, ("cpu", "cpu")))
        workers.mark_stopped(session, "wrk_b")
    trains = submit(database)
    lease = claim(database)
    write(database, trains, progress={"images_per_s": 120.5})
    first, _, waits_for_dataset, cancelled = (submit(database) for _ in range(4))
    write(database, first, queued_at=now() - 300)
    write(database, waits_for_dataset, queued_at=now() - 900, not_before=NOT_YET)
    with database.writing() as session:
        jobs.cancel(session, OWNER, cancelled)
        session.execute(update(Outbox).where(Outbox.job_id == first).values(created_at=now() - 60))
    commit(database, lease, 10)

    found = figures(database)
    assert found.jobs["train", "running"] == 1
    assert found.jobs["train", "queued"] == 3
    assert found.jobs["train", "cancelled"] == 1
    assert 300 <= found.oldest_queued_s["train"] < 320
    assert found.images_per_s == 120.5
    assert found.outbox == 4  # that of the job which waits for its dataset is not due
    assert 60 <= found.oldest_outbox_s < 80
    assert found.workers == {"live": 1, "draining": 0, "lost": 0, "stopped": 1}
    assert (found.slots, found.slots_busy) == (2, 1)
    assert found.datasets["ready"] == 1
    with database.reading() as session:
        assert found.publication == get_latest(session, OWNER).publication
    assert found.publication
