from __future__ import annotations

import itertools
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.runtime.migration import HeadMaintainer, MigrationStep
from sqlalchemy import Connection, event, inspect, select

from trainyard.database import schema
from trainyard.database.connection import Database, now
from trainyard.database.tables import Base


def test_the_migrations_make_the_tables_of_the_code_and_take_them_away(empty_url: str) -> None:
    database = Database(empty_url)
    assert schema.current_revision(database) is None
    schema.migrate(database)
    schema.migrate(database)
    assert schema.current_revision(database) == schema.newest_revision()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    with database.engine.connect().execution_options(trainyard_write=True) as connection, connection.begin():
        config = schema._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(inspect(database.engine).get_table_names()) <= {"alembic_version"}
    database.close()


def test_processes_that_start_together_migrate_once(empty_url: str) -> None:
    code = (
        "import sys; from trainyard.database import connection, schema; "
        "schema.migrate(connection.Database(sys.argv[1]))"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, empty_url]) for _ in range(4)]
    assert [process.wait(60) for process in started] == [0, 0, 0, 0]


def test_all_revisions_are_one_transaction(empty_url: str) -> None:
    database = Database(empty_url)
    commits: list[Connection] = []
    event.listen(database.engine, "commit", commits.append)
    schema.migrate(database)
    assert len(commits) == 1
    database.close()


def test_a_migration_that_fails_leaves_nothing(empty_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(empty_url)
    with monkeypatch.context() as patch:
        patch.setattr(HeadMaintainer, "update_to_step", _fail_at_the_second_step())
        with pytest.raises(ZeroDivisionError):
            schema.migrate(database)
    assert inspect(database.engine).get_table_names() == []
    schema.migrate(database)
    assert schema.current_revision(database) == schema.newest_revision()
    database.close()


def _fail_at_the_second_step() -> Callable[..., None]:
    genuine, steps = HeadMaintainer.update_to_step, itertools.count(1)

    def update(self: HeadMaintainer, step: MigrationStep) -> None:
        if next(steps) == 2:
            raise ZeroDivisionError
        genuine(self, step)

    return update


def test_the_database_tells_the_time_within_a_transaction(database: Database) -> None:
    with database.reading() as session:
        first = session.scalar(select(now()))
        time.sleep(0.01)
        second = session.scalar(select(now()))
    assert first is not None
    assert second is not None
    assert first < second
    assert abs(first - time.time()) < 5
