"""Lists in pages: newest first, with a cursor that stays valid while rows are added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, tuple_
from sqlalchemy.orm import Session

from trainyard.errors import InvalidRequest

Row = TypeVar("Row")

Cursor = tuple[float, str]


@dataclass(frozen=True)
class Page(Generic[Row]):
    """One page of a list."""

    items: list[Row]
    has_more: bool


def get_page(
    session: Session,
    query: Select[Row],
    table: Any,
    *,
    limit: int,
    after: str | None,
    visible: Select[Row] | None = None,
) -> Page[Row]:
    """Return the rows after a given one, newest first.

    Args:
        session: any.
        query: selects the rows of the list, unordered.
        table: a table with `id` and `created_at`.
        limit: rows on the page at most.
        after: id of the last row of the page before.
        visible: selects every row that the caller may see; None: `query` does. With a filter on what changes (a job's
            state) the cursor's row may have left the list between two pages.

    Raises:
        InvalidRequest: `after` names no row of this list.
    """
    known = (query if visible is None else visible).with_only_columns(table.created_at, table.id)
    last = None if after is None else read_cursor(session, known, table.id, after)
    rows = session.scalars(newest_first(query, (table.created_at, table.id), last, limit)).all()
    return Page(items=list(rows[:limit]), has_more=len(rows) > limit)


def read_cursor(session: Session, known: Select[Any, Any], column: Any, after: str) -> Cursor:
    """Return the position of the row that a page comes after.

    Args:
        session: any.
        known: selects time and id of every row that may be named.
        column: its id.
        after: an id.

    Raises:
        InvalidRequest: `after` is not among them.
    """
    # PostgreSQL refuses a text with a NUL in it, both drivers a lone surrogate
    last = session.execute(known.where(column == after)).one_or_none() if after.isprintable() else None
    if last is None:
        raise InvalidRequest(
            f"there is nothing with id {after!r} in this list: take `last_id` of a page", param="after"
        )
    return last[0], last[1]


def newest_first(query: Select[Any], place: tuple[Any, Any], last: Cursor | None, limit: int) -> Select[Any]:
    """Return the rows of a page, and one more if there is a next page.

    Args:
        query: selects the rows of the list, unordered.
        place: the columns of time and id; an index ends with them.
        last: the last row of the page before; None: the first page.
        limit: rows on the page at most.
    """
    if last is not None:
        query = query.where(tuple_(*place) < tuple_(*last))
    return query.order_by(place[0].desc(), place[1].desc()).limit(limit + 1)
