"""Aliases in the database: names of an owner for checkpoints. `naming.alias_moves` moves them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from trainyard.database.ids import is_like_an_id
from trainyard.database.pages import Page
from trainyard.database.tables import Alias, AliasMove
from trainyard.errors import (
    InvalidRequest,
)
from trainyard.serving_errors import AliasNotFound

LATEST = "latest"  #: names the owner's newest publication, and is no alias that can be moved
MAX_ALIASES = 100  #: of an owner: each serving process reads all of them once a second
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def is_alias_name(text: str) -> bool:
    """Whether an alias may have this name."""
    return _NAME.fullmatch(text) is not None and text != LATEST and not is_like_an_id(text)


def check_alias_name(name: str) -> None:
    """Refuse a name that no alias may have.

    Raises:
        InvalidRequest: it is `latest`, looks like an id, or has other characters.
    """
    if not is_alias_name(name):
        raise InvalidRequest(
            f"name is {name[:100]!r}: 1 to 63 of `a-z`, `0-9`, `_` and `-`, first a letter or digit; neither `latest`, "
            "which moves by itself, nor anything that looks like an id",
            param="name",
        )


def get_alias(session: Session, owner: str, name: str, *, param: str = "name") -> Alias:
    """Return an alias.

    Raises:
        AliasNotFound: the owner has none of this name.
    """
    found = session.get(Alias, (owner, name)) if is_alias_name(name) else None
    if found is None:
        raise AliasNotFound(f"there is no alias {name[:100]!r}: `GET /aliases` lists yours", param=param)
    return found


def list_aliases(session: Session, owner: str, *, limit: int, after: str | None = None) -> Page[Alias]:
    """Return a page of an owner's aliases by name."""
    query = select(Alias).where(Alias.owner == owner).order_by(Alias.name).limit(limit + 1)
    rows = session.scalars(query if after is None else query.where(Alias.name > after)).all()
    return Page(items=list(rows[:limit]), has_more=len(rows) > limit)


def list_all_aliases(session: Session) -> Sequence[Alias]:
    """Return the aliases of every owner, for a process that serves them."""
    return session.scalars(select(Alias).order_by(Alias.updated_at.desc(), Alias.owner, Alias.name)).all()


def list_moves(session: Session, owner: str, name: str, *, limit: int, before: int | None = None) -> Page[AliasMove]:
    """Return a page of the moves of an alias, newest first, also of one that was deleted.

    Raises:
        AliasNotFound: there has never been one of this name.
    """
    query = select(AliasMove).where(AliasMove.owner == owner, AliasMove.name == name)
    older = query if before is None else query.where(AliasMove.version < before)
    rows = session.scalars(older.order_by(AliasMove.version.desc()).limit(limit + 1)).all()
    if not rows and (not is_alias_name(name) or session.scalars(query.limit(1)).one_or_none() is None):
        raise AliasNotFound(f"there has never been an alias {name[:100]!r}", param="name")
    return Page(items=list(rows[:limit]), has_more=len(rows) > limit)


def release_previous(session: Session, checkpoint_ids: list[str]) -> None:
    """Let no alias be rolled back to these checkpoints any more: they are about to be deleted."""
    named = update(Alias).where(Alias.previous_id.in_(checkpoint_ids)).values(previous_id=None)
    session.execute(named.execution_options(synchronize_session=False))
