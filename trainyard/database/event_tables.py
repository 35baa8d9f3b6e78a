"""The table of a yard's events, and the numbers by which a reader sees each of them once, in order.

Events are numbered in the transactions of their changes, and a transaction may commit after one that drew a higher
number. On SQLite it can't, since there is one writer at a time. On PostgreSQL the transaction first takes a shared
advisory lock that names the number drawn last before its own. A reader looks at the locks that are held: a transaction
that has not ended can only have numbers above the one that its lock names. So a reader who goes no further than the
lowest of them misses nothing, and nobody waits for anybody: neither a writer for a writer nor a writer for a reader.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.orm import Mapped, mapped_column
from sqlalchemy.sql.functions import FunctionElement

from trainyard.database.base import ROW_NUMBER, Base
from trainyard.states import YardEventKind

EVENT_NUMBERS = "yard_event_numbers"  # the sequence, on PostgreSQL
LOCKS_FROM = 0x5941 << 48  # the keys of these advisory locks begin here; the rest of a key is a number
_MARKED = "trainyard.has_drawn"  # a setting of a transaction


class next_event_number(FunctionElement[int]):  # noqa: N801 - reads as the SQL function that it is
    """The SQL expression for the number of a new event of the yard."""

    type = BigInteger()
    inherit_cache = True


@compiles(next_event_number, "postgresql")
def _next_postgresql(element: next_event_number, compiler: Any, **kw: Any) -> str:
    # A CASE computes its parts in their order. The subquery is computed before the lock is taken, so that the number
    # which is drawn then is above what the lock names. One lock is enough for a transaction, as all its later numbers
    # are above it too; a setting of the transaction remembers it.
    last = f"(SELECT last_value FROM {EVENT_NUMBERS})"
    lock = f"pg_advisory_xact_lock_shared({LOCKS_FROM} + {last})"
    marked = (
        f"CASE WHEN current_setting('{_MARKED}', true) = 'yes' THEN true"
        f" WHEN {lock} IS NOT NULL THEN set_config('{_MARKED}', 'yes', true) = 'yes' END"
    )
    return f"CASE WHEN {marked} THEN nextval('{EVENT_NUMBERS}') END"


@compiles(next_event_number, "sqlite")
def _next_sqlite(element: next_event_number, compiler: Any, **kw: Any) -> str:
    return "(SELECT coalesce(max(number), 0) + 1 FROM yard_events)"


class YardEvent(Base):
    """One event of the yard: what has changed, to be read anew. The newest are kept for those who follow them."""

    __tablename__ = "yard_events"

    number: Mapped[int] = mapped_column(ROW_NUMBER, primary_key=True, autoincrement=False)  #: `next_event_number`
    owner: Mapped[str | None]  #: who is told; None: everybody
    kind: Mapped[YardEventKind]
    subject_id: Mapped[str]  #: the job, the dataset or the checkpoint
