"""What the servers themselves raise, and what it is taken for."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from tests.postgres import create_database, read_only
from tests.trainyard import rows as db_rows
from trainyard.database import connection, outages
from trainyard.database.connection import Database
from trainyard.errors import DatabaseFull, DatabaseUnavailable

AWAY = DatabaseUnavailable().message
NOT_NOW = {
    "08006": AWAY, "25006": outages.READ_ONLY, "25P03": AWAY, "40001": outages.BUSY, "40P01": outages.BUSY,
    "42P01": outages.OTHER_TABLES, "42703": outages.OTHER_TABLES, "53000": outages.BUSY,
    "53100": DatabaseFull().message, "53200": outages.BUSY, "53300": outages.BUSY, "53400": outages.BUSY,
    "55000": AWAY, "55P03": outages.BUSY, "57014": outages.BUSY, "57P01": AWAY, "57P03": AWAY, "58030": AWAY,
}  # fmt: skip


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Database]:
    database = Database(create_database(postgres_url))
    yield database
    database.close()


@pytest.mark.postgres
@pytest.mark.parametrize("state", NOT_NOW)
def test_what_postgresql_can_not_do_now_is_unavailable(postgres: Database, state: str) -> None:
    with pytest.raises(DatabaseUnavailable) as raised, postgres.writing() as session:
        session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'now' USING ERRCODE = '{state}'; END $$"))
    assert raised.value.message == NOT_NOW[state]
    assert raised.value.retry_after_s
    assert isinstance(raised.value, DatabaseFull) == (state == "53100")


@pytest.mark.postgres
@pytest.mark.parametrize("state", ["22012", "23505", "42601", "25P02", "XX001"])
def test_what_would_fail_again_is_not_hidden(postgres: Database, state: str) -> None:
    with pytest.raises(DBAPIError), postgres.writing() as session:
        session.execute(text(f"DO $$ BEGIN RAISE EXCEPTION 'for ever' USING ERRCODE = '{state}'; END $$"))


@pytest.mark.postgres
def test_a_read_only_server_takes_no_writes_and_still_answers(postgres: Database) -> None:
    with postgres.writing() as session:
        session.execute(text("CREATE TABLE numbers (value int)"))
        before = session.scalar(text("SELECT pg_backend_pid()"))
    postgres.check_writes()
    with read_only(postgres.engine.url.render_as_string(hide_password=False)):
        with pytest.raises(DatabaseUnavailable, match="takes no writes"):
            postgres.check_writes()
        with pytest.raises(DatabaseUnavailable, match="takes no writes"), postgres.writing() as session:
            session.execute(text("INSERT INTO numbers VALUES (1)"))
        with postgres.reading() as session:
            assert session.scalar(text("SELECT count(*) FROM numbers")) == 0
            after = session.scalar(text("SELECT pg_backend_pid()"))
    assert after != before, "the connection would lead to the old primary for ever"
    with postgres.writing() as session:
        session.execute(text("INSERT INTO numbers VALUES (1)"))


@pytest.mark.postgres
def test_a_lock_that_does_not_come_a_query_that_is_ended_and_a_connection_too_many(postgres: Database) -> None:
    url = postgres.engine.url
    with postgres.writing() as session:
        session.execute(text("CREATE TABLE numbers (value int)"))
        session.execute(text("DROP ROLE IF EXISTS lonely"))
        session.execute(text("CREATE ROLE lonely LOGIN CONNECTION LIMIT 1"))
    with postgres.writing() as holder:
        holder.execute(text("LOCK TABLE numbers"))
        with pytest.raises(DatabaseUnavailable, match="others held"):
            _execute(postgres, "SET LOCAL lock_timeout = 50", "SELECT * FROM numbers")
    with pytest.raises(DatabaseUnavailable, match="others held"):
        _execute(postgres, "SET LOCAL statement_timeout = 50", "SELECT pg_sleep(10)")
    with pytest.raises(DatabaseUnavailable), postgres.writing() as session:
        session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
    lonely = Database(url.set(username="lonely").render_as_string(hide_password=False))
    with lonely.reading() as session:
        session.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable):
            lonely.ping()
    lonely.close()


@pytest.mark.postgres
def test_two_that_wait_for_each_other(postgres: Database) -> None:
    with postgres.writing() as session:
        session.execute(text("CREATE TABLE pair (id int PRIMARY KEY, value int)"))
        session.execute(text("INSERT INTO pair VALUES (1, 0), (2, 0)"))
    outcomes: list[str] = []
    meeting = threading.Barrier(2)

    def cross(first: int, second: int) -> None:
        try:
            with postgres.writing() as session:
                session.execute(text("UPDATE pair SET value = value + 1 WHERE id = :id"), {"id": first})
                meeting.wait(10)
                session.execute(text("UPDATE pair SET value = value + 1 WHERE id = :id"), {"id": second})
            outcomes.append("written")
        except DatabaseUnavailable as exc:
            outcomes.append(exc.message)

    threads = [threading.Thread(target=cross, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == sorted(["written", outages.BUSY])


def test_more_than_the_pool_holds_is_unavailable(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(connection._POOL, "pool_size", 1)
    monkeypatch.setitem(connection._POOL, "max_overflow", 0)
    monkeypatch.setitem(connection._POOL, "pool_timeout", 0.05)
    small = Database(database.engine.url.render_as_string(hide_password=False))
    with small.reading() as held:
        held.execute(text("SELECT 1"))
        with pytest.raises(DatabaseUnavailable, match="overloaded"), small.reading() as session:
            session.execute(text("SELECT 1"))
    small.close()


def _execute(database: Database, *statements: str) -> None:
    with database.writing() as session:
        for statement in statements:
            session.execute(text(statement))


class TestSqlite:
    @pytest.fixture
    def path(self, migrated_sqlite_file: Path, tmp_path: Path) -> Path:
        return Path(shutil.copyfile(migrated_sqlite_file, tmp_path / "trainyard.db"))

    def test_a_file_that_can_only_be_read(self, path: Path) -> None:
        database = Database(f"sqlite:///file:{path}?mode=ro&uri=true")
        with database.reading() as session:
            assert session.scalar(text("SELECT count(*) FROM jobs")) == 0
        with pytest.raises(DatabaseUnavailable, match="takes no writes"):
            database.check_writes()
        with pytest.raises(DatabaseUnavailable, match="takes no writes"):
            db_rows.submit(database)
        database.close()

    def test_a_database_without_room(self, path: Path) -> None:
        database = Database(f"sqlite:///{path}")
        insert = "INSERT INTO removals SELECT hex(randomblob(100000)), 0"
        with pytest.raises(DatabaseFull):
            _execute(database, "PRAGMA max_page_count = 1", insert)
        database.close()

    def test_a_file_that_is_away(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/nowhere/trainyard.db")
        with pytest.raises(DatabaseUnavailable, match="does not answer"):
            database.ping()

    def test_a_lock_that_does_not_come(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(connection, "BUSY_TIMEOUT_MS", 50)
        one, other = Database(f"sqlite:///{path}"), Database(f"sqlite:///{path}")
        with one.writing(), pytest.raises(DatabaseUnavailable, match="others held"):
            other.check_writes()
        one.close()
        other.close()

    def test_tables_of_another_version_and_a_mistake_of_ours(self, path: Path) -> None:
        database = Database(f"sqlite:///{path}")
        with pytest.raises(DatabaseUnavailable, match="trainyard migrate"), database.reading() as session:
            session.execute(text("SELECT * FROM what_comes_later"))
        with pytest.raises(DBAPIError), database.reading() as session:
            session.execute(text("SELECT FROM WHERE"))
        database.close()
