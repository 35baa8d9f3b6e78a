from __future__ import annotations

from enum import StrEnum

import pytest
from sqlalchemy import Enum, select, text
from sqlalchemy.exc import StatementError
from sqlalchemy.orm import Session

from tests.trainyard import rows as db_rows
from trainyard.database.connection import Database
from trainyard.database.tables import Base, Checkpoint, Job, JobEvent
from trainyard.states import CheckpointStatus, EventType, JobState

CLOSED = {
    "jobs.kind", "jobs.state", "jobs.desired", "job_events.type", "job_events.state", "job_metrics.kind",
    "checkpoints.kind", "checkpoints.status", "datasets.state", "uploads.state", "alias_moves.action",
    "alias_counts.side", "yard_events.kind",
}  # fmt: skip


def test_every_column_with_a_closed_set_of_values_has_its_enum() -> None:
    columns = [column for table in Base.metadata.tables.values() for column in table.columns]
    typed = {str(column): column.type for column in columns if isinstance(column.type, Enum)}
    assert set(typed) == CLOSED
    for column in typed.values():
        assert column.enum_class is not None
        assert issubclass(column.enum_class, StrEnum)
        assert column.enums == [member.value for member in column.enum_class]


def test_what_is_stored_is_the_text_and_what_is_read_is_the_member(database: Database) -> None:
    job_id = db_rows.submit(database)
    db_rows.commit(database, db_rows.claim(database), 10)
    with database.reading() as session:
        assert _texts(session, "SELECT state FROM jobs") == {"running"}
        assert _texts(session, "SELECT status FROM checkpoints") == {"committed"}
        assert _texts(session, "SELECT type FROM job_events") == {"state", "checkpoint"}
        assert session.scalar(select(Job.state).where(Job.id == job_id)) is JobState.RUNNING
        assert session.scalar(select(Checkpoint.status)) is CheckpointStatus.COMMITTED
        assert set(map(type, session.scalars(select(JobEvent.type)))) == {EventType}


def test_a_value_that_no_member_has_is_neither_written_nor_read(database: Database) -> None:
    job_id = db_rows.submit(database)
    with pytest.raises(StatementError, match="sleeping"):
        db_rows.write(database, job_id, desired="sleeping")
    with database.writing() as session:
        session.execute(text("UPDATE job_events SET type = 'dream'"))
    with pytest.raises(LookupError, match="dream"), database.reading() as session:
        session.scalars(select(JobEvent.type)).all()


def _texts(session: Session, query: str) -> set[str]:
    return set(session.scalars(text(query)))
