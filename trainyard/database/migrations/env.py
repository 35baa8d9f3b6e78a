"""Alembic's entry: runs on the connection that `trainyard.database.schema` hands over, or on the settings' database."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from trainyard.database.connection import Database
from trainyard.database.tables import Base
from trainyard.settings import Settings


def run(connection: Connection) -> None:
    """Run the migrations that the caller asked for within the transaction that the connection is in."""
    context.configure(
        connection=connection,
        target_metadata=Base.metadata,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_type=True,
    )
    context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with (
        Database(Settings().sqlalchemy_url).engine.connect().execution_options(trainyard_write=True) as own,
        own.begin(),
    ):
        run(own)
