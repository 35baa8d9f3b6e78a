"""The revision of the tables: migrates a database to the newest one, and checks which one it has."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.orm import Session

import trainyard.database.access_tables
import trainyard.database.event_tables
import trainyard.database.prediction_tables  # noqa: F401 - whoever knows the schema knows all tables
from trainyard.build import build_id
from trainyard.database.connection import Database
from trainyard.errors import DatabaseUnavailable

OTHER_RELEASE_RETRY_S = 10
_MIGRATION_LOCK = (
    7_265_110_215  # PostgreSQL advisory lock: two processes that start together migrate one after the other
)


class Standing(StrEnum):
    """Whether the database's tables fit this code."""

    OK = "ok"  #: they have its revision
    BEHIND = "behind"  #: an older release made them, or they don't exist
    AHEAD = "ahead"  #: a newer release made them


def migrate(database: Database) -> None:
    """Migrate the tables to the newest revision. Harmless if they have it, or if another process migrates too.

    All revisions are one transaction: a process that dies, or a second one that migrates too, never finds only some of
    them.

    Raises:
        DatabaseUnavailable: the database does not answer, or a newer release made the tables.
    """
    found = current_revision(database)
    if standing_of(found) is Standing.OK:
        return
    if standing_of(found) is Standing.AHEAD:
        raise DatabaseUnavailable(describe(found))
    # Begun here, since Alembic commits after every revision on SQLite, and another process could step in between.
    from trainyard.database.postgresql import without_hurry  # and psycopg, which SQLite does not need

    writing = database.engine.connect().execution_options(trainyard_write=True)
    with writing as connection, without_hurry(connection), connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def standing_of(revision: str | None) -> Standing:
    """Say whether tables of a revision fit this code. A revision that it does not know is a newer release's."""
    if revision == newest_revision():
        return Standing.OK
    return Standing.BEHIND if revision is None or revision in _known_revisions() else Standing.AHEAD


def describe(revision: str | None) -> str:
    """Describe in a sentence what a revision means for this code, and what to do."""
    needed, release = newest_revision(), build_id()
    match standing_of(revision):
        case Standing.OK:
            return f"The database's tables are at revision {needed}, as this release ({release}) needs them."
        case Standing.AHEAD:
            return (
                f"The database's tables are at revision {revision}, which a newer release than this one ({release}) "
                f"made; it knows revisions up to {needed}. Update this installation."
            )
        case Standing.BEHIND:
            found = "not there yet" if revision is None else f"at revision {revision}"
            return (
                f"The database's tables are {found}, and this release ({release}) needs revision {needed}. Run "
                "`trainyard migrate` of this release."
            )


def check_revision(session: Session) -> None:
    """Refuse to work with tables of another release.

    Raises:
        DatabaseUnavailable: they are; the message says which of the two must be updated.
    """
    found = session.scalar(text("SELECT version_num FROM alembic_version"))
    if standing_of(found) is not Standing.OK:
        raise DatabaseUnavailable(describe(found), retry_after_s=OTHER_RELEASE_RETRY_S)


def current_revision(database: Database) -> str | None:
    """Return the revision of the database's tables. None: the database is empty.

    Raises:
        DatabaseUnavailable: the database does not answer.
    """
    with database.reading() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


@cache
def newest_revision() -> str:
    """Return the revision that this code needs."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    assert head is not None
    return head


@cache
def _known_revisions() -> frozenset[str]:
    return frozenset(script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    return config
