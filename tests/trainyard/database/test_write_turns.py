"""Writers of one process on SQLite wait for each other in order, not by its sleeps."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, update

from trainyard.database import connection as database_module
from trainyard.database.connection import Database
from trainyard.database.numbers import Numbers
from trainyard.database.tables import Counter
from trainyard.errors import DatabaseUnavailable


@pytest.fixture
def impatient(tmp_path: Path, migrated_sqlite_file: Path) -> Database:
    """A database whose connections give up at once where SQLite is locked."""
    path = tmp_path / "trainyard.db"
    shutil.copyfile(migrated_sqlite_file, path)
    database = Database(f"sqlite:///{path}")

    @event.listens_for(database.engine, "connect")
    def lose_patience(connection: Any, record: object) -> None:
        connection.execute("PRAGMA busy_timeout=0")

    return database


def count_up(database: Database) -> None:
    with database.writing() as session:
        session.execute(update(Counter).where(Counter.name == Numbers.CLAIMS).values(value=Counter.value + 1))


def test_threads_that_write_at_once_never_find_it_locked(impatient: Database) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(count_up, impatient) for _ in range(80)]:
            done.result()
    with impatient.reading() as session:
        assert session.scalar(select(Counter.value).where(Counter.name == Numbers.CLAIMS)) == 80
    impatient.close()


def test_a_turn_that_does_not_come_is_an_error_and_a_broken_write_gives_its_turn_back(
    impatient: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_MS", 1)
    held, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with suppress(ZeroDivisionError), impatient.writing():
            held.set()
            assert go_on.wait(60)
            raise ZeroDivisionError

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    with pytest.raises(DatabaseUnavailable):
        count_up(impatient)
    go_on.set()
    holder.join()
    count_up(impatient)
    impatient.close()


def test_a_write_locks_out_other_processes_from_its_start_not_from_its_first_statement(impatient: Database) -> None:
    of_another_process = Database(impatient.engine.url.render_as_string())
    with of_another_process.writing(), pytest.raises(DatabaseUnavailable):
        count_up(impatient)
    count_up(impatient)
    of_another_process.close()
    impatient.close()


def test_a_session_that_reads_changes_nothing(impatient: Database) -> None:
    with impatient.reading() as session:
        counter = session.get_one(Counter, Numbers.CLAIMS)
        before, counter.value = counter.value, 7
        with pytest.raises(AssertionError, match="reads"):
            session.flush()
    with impatient.reading() as session:
        assert session.get_one(Counter, Numbers.CLAIMS).value == before
