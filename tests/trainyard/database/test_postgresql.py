from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from trainyard.database import connection as connections
from trainyard.database import postgresql
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable

pytestmark = pytest.mark.postgres


@pytest.fixture
def database(postgres_url: str) -> Iterator[Database]:
    database = Database(postgres_url)
    yield database
    database.close()


@contextmanager
def in_a_hurry() -> Iterator[None]:
    """Inside, a server that does not answer for a moment counts as away."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(postgresql.PatientConnection, "answer_within_s", 0.3)
        yield


def test_a_server_that_says_nothing_counts_as_away_and_the_next_question_is_answered(database: Database) -> None:
    with pytest.raises(DatabaseUnavailable), database.writing() as session, in_a_hurry():
        session.execute(text("SELECT pg_sleep(100)"))
    with pytest.raises(DatabaseUnavailable), database.reading() as session, in_a_hurry():
        session.execute(text("SELECT pg_sleep(100)"))
    with database.reading() as session:
        assert session.scalar(text("SELECT 1")) == 1


def test_what_was_begun_is_not_there_if_the_server_fell_silent_before_the_commit(database: Database) -> None:
    with database.writing() as session:
        session.execute(text("CREATE TABLE half (value int)"))
    try:
        with pytest.raises(DatabaseUnavailable), database.writing() as session, in_a_hurry():
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
    with database.engine.connect() as connection, in_a_hurry():
        with postgresql.without_hurry(connection), connection.begin():
            connection.execute(slow)
        with pytest.raises(OperationalError):
            connection.execute(slow)


def test_a_database_without_an_encoding_is_refused_and_the_message_says_how_to_make_one_that_has(
    database: Database, postgres_url: str
) -> None:
    server, _, _ = postgres_url.rpartition("/")
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("CREATE DATABASE plain ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    plain = Database(f"{server}/plain")
    with pytest.raises(DatabaseUnavailable, match="ENCODING 'UTF8'"):
        plain.ping()
    plain.close()
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("DROP DATABASE plain")  # refused while a connection is open


def test_a_statement_whose_client_is_gone_is_ended(database: Database) -> None:
    with database.engine.connect() as connection:
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        driver: Any = connection.connection.driver_connection
        driver.pgconn.send_query(b"SELECT pg_sleep(100)")
        driver.close()
        connection.invalidate()
    deadline = time.monotonic() + 20
    while True:
        with database.reading() as session:
            if not session.scalar(text(f"SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}")):
                return
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_server_that_can_not_tell_whether_its_client_is_gone_is_used_all_the_same(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLIENT_GONE_S", -1)  # refused as on a system without the means
    other = Database(database.engine.url.render_as_string(hide_password=False), frozen_s=7)
    with other.reading() as session:
        assert session.scalar(text("SHOW idle_in_transaction_session_timeout")) == "7s"
    other.close()


def count_questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    asked: list[str] = []
    execute = postgresql.PatientConnection.execute

    def note(self: postgresql.PatientConnection, query: Any, *rest: Any, **options: Any) -> Any:
        asked.append(str(query))
        return execute(self, query, *rest, **options)

    monkeypatch.setattr(postgresql.PatientConnection, "execute", note)
    return asked


def test_a_server_is_asked_whether_it_is_there_only_after_a_while(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "TRUSTED_S", 3600.0)
    database.ping()
    asked = count_questions(monkeypatch)
    database.ping()
    assert asked == []
    monkeypatch.setattr(postgresql, "TRUSTED_S", 0.0)
    database.ping()
    assert asked == ["SELECT 1"]


def test_a_connection_that_the_server_closed_is_replaced_before_it_is_used(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgresql, "TRUSTED_S", 3600.0)
    with database.reading() as session:
        backend = session.scalar(text("SELECT pg_backend_pid()"))
    other = Database(database.engine.url.render_as_string(hide_password=False))
    with other.reading() as session:
        session.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": backend})
    other.close()
    with database.writing() as session:
        assert session.scalar(text("SELECT pg_backend_pid()")) != backend
