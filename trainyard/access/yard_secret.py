"""The part of the session secret that the database holds, the same for all processes of a yard."""

from __future__ import annotations

from sqlalchemy import select
from sqlalchemy.orm import Session

from trainyard.database.access_tables import YardSecret


def read_yard_secret(session: Session) -> str:
    """Return the random text that the database's migration drew. It never changes."""
    return session.scalars(select(YardSecret.secret).where(YardSecret.number == 1)).one()
