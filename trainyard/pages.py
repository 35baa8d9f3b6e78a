"""Lists in pages: newest first, a cursor that stays right while rows are added."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, and_, or_
from sqlalchemy.orm import Session

from trainyard.errors import InvalidRequest

Row = TypeVar("Row")


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
    """The rows after a given one, newest first.

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
    if after is not None:
        known = (query if visible is None else visible).where(table.id == after)
        # PostgreSQL refuses a text with a NUL in it, both drivers a lone surrogate
        last: Any = session.execute(known).scalar_one_or_none() if after.isprintable() else None
        if last is None:
            raise InvalidRequest(
                f"there is nothing with id {after!r} in this list: take `last_id` of a page", param="after"
            )
        older = or_(table.created_at < last.created_at, and_(table.created_at == last.created_at, table.id < last.id))
        query = query.where(older)
    rows = session.scalars(query.order_by(table.created_at.desc(), table.id.desc()).limit(limit + 1)).all()
    return Page(items=list(rows[:limit]), has_more=len(rows) > limit)
