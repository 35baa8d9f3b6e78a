from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.runtime.migration import HeadMaintainer, RevisionStep, StampStep
from sqlalchemy import Connection, event, inspect, select, update

from alexnet_core.config import DatasetFacts
from tests.postgres import create_database
from tests.trainyard.rows import OWNER, add_dataset, revision_of_tables
from trainyard.database import schema
from trainyard.database.connection import Database, now
from trainyard.database.numbers import Numbers, draw_number
from trainyard.database.schema import Standing
from trainyard.database.tables import Base, Dataset
from trainyard.errors import DatabaseUnavailable
from trainyard.jobs import jobs
from trainyard.jobs.jobs import NewJob
from trainyard.states import DatasetState, JobState


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


def test_a_downgrade_and_an_upgrade_again_leave_datasets_and_jobs_that_can_be_read(database: Database) -> None:
    for name, state in (("bad", DatasetState.REJECTED), ("coming", DatasetState.VALIDATING)):
        add_dataset(database, f"ds_{name}", OWNER)
        with database.writing() as session:
            session.execute(update(Dataset).where(Dataset.id == f"ds_{name}").values(state=state))
    with database.writing() as session:
        dataset = session.get_one(Dataset, "ds_coming")
        waiting = NewJob(recipe="", config={}, seed=1, max_failures=3, waits_for_dataset=True)
        job_id = jobs.submit(session, OWNER, dataset, waiting).id
    with database.engine.connect().execution_options(trainyard_write=True) as connection, connection.begin():
        config = schema._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0007")
        [facts] = connection.exec_driver_sql("SELECT facts FROM datasets").scalars()
        DatasetFacts.model_validate(json.loads(facts) if isinstance(facts, str) else facts)  # as that release does
    schema.migrate(database)
    with database.reading() as session:
        assert set(session.scalars(select(Dataset.state))) == {DatasetState.REJECTED}
        assert jobs.get_job(session, OWNER, job_id).state is JobState.CANCELLED, "nobody would ever train it"


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

    def update(self: HeadMaintainer, step: RevisionStep | StampStep) -> None:
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


@pytest.mark.parametrize(
    ("revision", "standing", "advice"),
    [
        (None, Standing.BEHIND, "are not there yet.*trainyard migrate"),
        ("0001", Standing.BEHIND, "are at revision 0001.*trainyard migrate"),
        ("9999", Standing.AHEAD, "revision 9999, which a newer release .*Update this installation"),
        (schema.newest_revision(), Standing.OK, "as this release"),
    ],
)
def test_how_tables_stand_to_this_release_is_told_in_words(
    revision: str | None, standing: Standing, advice: str
) -> None:
    assert schema.standing_of(revision) is standing
    assert re.search(advice, schema.describe(revision))


def test_tables_of_a_newer_release_are_left_alone(database: Database) -> None:
    with revision_of_tables(database, "9999"):
        with pytest.raises(DatabaseUnavailable, match="Update this installation"):
            schema.migrate(database)
        assert schema.current_revision(database) == "9999"
        with pytest.raises(DatabaseUnavailable, match="Update this installation"), database.reading() as session:
            schema.check_revision(session)
    with database.reading() as session:
        schema.check_revision(session)


def test_an_older_release_says_in_one_line_that_it_can_not_migrate_a_newer_database(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'trainyard.db'}")
    schema.migrate(database)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TRAINYARD_")}
    environment["TRAINYARD_DATA_DIR"] = str(tmp_path)
    with revision_of_tables(database, "9999"):
        migrating = [sys.executable, "-m", "trainyard", "migrate"]
        done = subprocess.run(migrating, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"trainyard: .* at revision 9999, .* Update this installation\.\n", done.stderr), done.stderr
    database.close()


@pytest.mark.postgres
def test_numbers_go_on_where_the_counter_stood(postgres_url: str) -> None:
    """Behind a gap, for workers of the release before that commit a last checkpoint by the counter."""
    database = Database(create_database(postgres_url))
    config = schema._config()
    with database.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.upgrade(config, "0004")
        connection.exec_driver_sql("UPDATE counters SET value = 41 WHERE name = 'publications'")
    schema.migrate(database)
    with database.writing() as session:
        first = draw_number(session, Numbers.PUBLICATIONS)
        assert (first, draw_number(session, Numbers.CLAIMS)) == (41 + 1000, 1)
    with database.engine.connect() as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "0004")
        assert connection.exec_driver_sql("SELECT value FROM counters ORDER BY name").scalars().all() == [1, first]
    database.close()
