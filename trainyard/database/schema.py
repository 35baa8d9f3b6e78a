"""The tables' revision: bring a database to the newest one, and tell whether it is there."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from trainyard.database.connection import Database

_MIGRATION_LOCK = (
    7_265_110_215  # PostgreSQL advisory lock: two processes that start together migrate one after the other
)


def migrate(database: Database) -> None:
    """Bring the tables to the newest revision; harmless when they are there, or when another process does it too.

    All revisions are one transaction: a process that dies, or a second one that migrates too, never meets half of them.
    """
    if current_revision(database) == newest_revision():
        return
    # Begun here, since Alembic commits after every revision on SQLite, and another process could step in between.
    from trainyard.database.postgresql import without_hurry  # and psycopg, which SQLite does not need

    writing = database.engine.connect().execution_options(trainyard_write=True)
    with writing as connection, without_hurry(connection), connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def current_revision(database: Database) -> str | None:
    """The revision that the database's tables have; None for an empty database.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    with database.reading() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


@cache
def newest_revision() -> str:
    """The revision that this code needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
