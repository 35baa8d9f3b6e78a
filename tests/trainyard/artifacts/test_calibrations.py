"""Calibrations in the database: written once, to the checkpoints that they are about."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from tests.trainyard import rows as db_rows
from trainyard.artifacts.calibrations import keep_of_checkpoint, keep_of_weights, read_calibration
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint

FOUND: dict[str, Any] = {"temperature": 1.5, "after": {"nll": float("nan")}}


def read(database: Database, checkpoint_id: str) -> dict[str, Any] | None:
    with database.reading() as session:
        return read_calibration(session, checkpoint_id)


def test_it_is_written_to_the_jobs_checkpoints_with_these_weights(database: Database) -> None:
    db_rows.submit(database)
    db_rows.submit(database)
    lease, other = db_rows.claim(database), db_rows.claim(database, "wrk_b")
    first, second, foreign = (
        db_rows.commit(database, it, step) for it, step in ((lease, 10), (lease, 20), (other, 10))
    )
    with database.writing() as session:
        session.execute(update(Checkpoint).where(Checkpoint.id == second).values(weights_sha256="b" * 64))
        keep_of_weights(session, lease.job_id, "0" * 64, FOUND)
    assert read(database, first) == {"temperature": 1.5, "after": {"nll": None}}
    assert (read(database, second), read(database, foreign)) == (None, None)


def test_one_that_is_there_stays(database: Database) -> None:
    db_rows.submit(database)
    checkpoint_id = db_rows.commit(database, db_rows.claim(database), 10)
    for temperature in (1.5, 2.5):
        with database.writing() as session:
            keep_of_checkpoint(session, checkpoint_id, {"temperature": temperature})
    assert read(database, checkpoint_id) == {"temperature": 1.5}


def test_there_is_none_for_what_is_not_there(database: Database) -> None:
    with database.writing() as session:
        keep_of_checkpoint(session, "ckpt_gone", FOUND)
    assert read(database, "ckpt_gone") is None
