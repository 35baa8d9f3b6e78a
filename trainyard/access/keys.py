"""The API keys in the database: made, listed, found, revoked."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from sqlalchemy import delete, or_, select, update
from sqlalchemy.orm import Session

from trainyard.access.key_text import draw_key_text
from trainyard.access.refusals import KeyNotFound
from trainyard.access.scopes import Scope
from trainyard.database.access_tables import ApiKey
from trainyard.database.connection import now, read_clock, update_rows
from trainyard.database.ids import new_id
from trainyard.database.pages import Page, get_page

USE_NOTED_EVERY_S = 60.0  #: so often at most is a key's last use written


@dataclass(frozen=True)
class KeyRecord:
    """What is needed to let a request with a key in."""

    prefix: str
    digest: str
    owner: str
    scopes: frozenset[Scope]


def create_key(session: Session, *, owner: str, scopes: Iterable[Scope], name: str | None = None) -> tuple[ApiKey, str]:
    """Make a key.

    Args:
        session: writes.
        owner: whose name its requests act in.
        scopes: what it may do.
        name: what it is for.

    Returns:
        Its row, and its text, which can never be read again.
    """
    drawn = draw_key_text()
    row = ApiKey(
        id=new_id("key"),
        prefix=drawn.prefix,
        digest=drawn.digest,
        owner=owner,
        name=name,
        scopes=sorted(scope.value for scope in set(scopes)),
        created_at=read_clock(session),
        last_used_at=None,
    )
    session.add(row)
    session.flush()
    return row, drawn.text


def list_keys(session: Session, *, limit: int, after: str | None) -> Page[ApiKey]:
    """Return a page of all owners' keys, newest first.

    Raises:
        InvalidRequest: `after` names no key.
    """
    return get_page(session, select(ApiKey), ApiKey, limit=limit, after=after)


def find_keys(session: Session, prefixes: Collection[str]) -> dict[str, KeyRecord]:
    """Return the keys with these prefixes, by prefix. One that was revoked is not there."""
    columns = (ApiKey.prefix, ApiKey.digest, ApiKey.owner, ApiKey.scopes)
    rows = session.execute(select(*columns).where(ApiKey.prefix.in_(prefixes)))
    return {
        row.prefix: KeyRecord(row.prefix, row.digest, row.owner, frozenset(Scope(value) for value in row.scopes))
        for row in rows
    }


def revoke_key(session: Session, key_id: str) -> str:
    """Remove a key and return its prefix. What its owner has stays.

    Raises:
        KeyNotFound: there is no such key; it may have been revoked before.
    """
    prefix: str | None = session.scalar(delete(ApiKey).where(ApiKey.id == key_id).returning(ApiKey.prefix))
    if prefix is None:
        raise KeyNotFound(param="key_id")
    return prefix


def note_uses(session: Session, prefixes: Collection[str]) -> int:
    """Write that keys are in use, unless this was written within the last minute; return how many were written."""
    is_due = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < now() - USE_NOTED_EVERY_S)
    statement = update(ApiKey).where(ApiKey.prefix.in_(prefixes), is_due).values(last_used_at=now())
    return update_rows(session, statement)
