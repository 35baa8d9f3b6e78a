from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from trainyard.database import postgresql
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(postgresql.PatientConnection, "answer_within_s", 0.3)
    database = Database(postgres_url)
    yield database
    database.close()


def test_a_server_that_says_nothing_counts_as_away_and_the_next_question_is_answered(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable), database.writing() as session:
        session.execute(text("SELECT pg_sleep(100)"))
    with pytest.raises(DatabaseUnavailable), database.reading() as session:
        session.execute(text("SELECT pg_sleep(100)"))
    with database.reading() as session:
        assert session.scalar(text("SELECT 1")) == 1


def test_what_was_begun_is_not_there_if_the_server_fell_silent_before_the_commit(database: Database) -> None:
    with database.writing() as session:
        session.execute(text("CREATE TABLE half (value int)"))
    try:
        with pytest.raises(DatabaseUnavailable), database.writing() as session:
            session.execute(text("WITH new AS (INSERT INTO half VALUES (1) RETURNING 1) SELECT pg_sleep(100) FROM new"))
        with database.reading() as session:
            assert session.scalar(text("SELECT count(*) FROM half")) == 0
    finally:
        with database.writing() as session:  # waits for the one that sleeps, unless that was told to end
            session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE wait_event = 'PgSleep'"))
        with database.writing() as session:
            session.execute(text("DROP TABLE half"))


def test_a_migration_may_take_as_long_as_it_needs_and_nothing_after_it(database: Database) -> None:
    slow = text("SELECT pg_sleep(0.6)")
    with database.engine.connect() as connection:
        with postgresql.without_hurry(connection), connection.begin():
            connection.execute(slow)
        with pytest.raises(OperationalError):
            connection.execute(slow)
