"""Numbers that only grow: those of publications and of claims.

On PostgreSQL a sequence gives them, so drawing a number never waits for a transaction that has drawn one and not
committed yet. A number may therefore appear after a higher one, and that of a transaction which is rolled back never
appears. The highest number that can be seen never falls. SQLite has only one writer at a time, so a row that counts is
enough.
"""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import BigInteger, ColumnElement, Sequence, literal, select, update
from sqlalchemy.orm import Session

from trainyard.database.tables import Counter


class Numbers(StrEnum):
    """The things that are numbered."""

    PUBLICATIONS = "publications"  #: epoch checkpoints: an owner's `latest` is the one with the highest
    CLAIMS = "claims"  #: says whose last claim is longest ago


def draw_number(session: Session, of: Numbers) -> int:
    """Draw a number that is higher than all that were drawn before."""
    if session.get_bind().dialect.name == "postgresql":
        return int(session.connection().execute(select(Sequence(of).next_value())).scalar_one())
    draw = update(Counter).where(Counter.name == of).values(value=Counter.value + 1).returning(Counter.value)
    return int(session.connection().execute(draw).scalar_one())


def next_number(session: Session, of: Numbers) -> ColumnElement[int]:
    """Return the same as an SQL value for one statement, in which PostgreSQL draws it."""
    if session.get_bind().dialect.name == "postgresql":
        return Sequence(of).next_value()
    return literal(draw_number(session, of), BigInteger)
