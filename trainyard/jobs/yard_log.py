"""Writes and reads the yard's log: which jobs, datasets and checkpoints have changed, numbered over all of them.

An entry says only what has changed, so that a reader reads the thing itself, which is then at least as new. How entries
are numbered is explained in `event_tables`. A reader goes as far as `read_extent` says and no further.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Insert,
    Select,
    Text,
    case,
    delete,
    func,
    insert,
    literal_column,
    or_,
    select,
    text,
)
from sqlalchemy.orm import Session

from trainyard.database.event_tables import EVENT_NUMBERS, LOCKS_FROM, YardEvent, next_event_number
from trainyard.states import WorkKind, YardEventKind

KEPT = 20_000  # entries that a reader may be behind; one that is further behind begins anew
TRIMMED_AT_ONCE = 10_000  # entries beyond those are kept until there are so many

_LAST_DRAWN = text(f"SELECT last_value FROM {EVENT_NUMBERS}")
_LOWEST_IN_USE = text(
    # a key of 64 bits is shown in two halves
    "SELECT min((classid::bigint << 32) | objid::bigint) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1"
    f" AND classid::bigint >> 16 = {LOCKS_FROM >> 48}"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


def tell(session: Session, owner: str | None, kind: YardEventKind, *subject_ids: str) -> None:
    """Write that something has changed, in the transaction of the change.

    Args:
        session: a writing one.
        owner: who is told; None: everybody.
        kind: of what has changed.
        subject_ids: its ids, in this order.
    """
    session.flush()
    for subject_id in subject_ids:
        values = {"number": next_event_number(), "owner": owner, "kind": kind, "subject_id": subject_id}
        session.connection().execute(insert(YardEvent).values(values))


def with_entry(changed: Any, checkpoint_id: ColumnElement[Any] | None) -> Insert:
    """Build the statement that writes the entry for a job, or a dataset's validation, that another statement changed.

    Args:
        changed: a CTE with the columns `id`, `owner`, `kind` and `dataset_id` of the job. A prediction has no entry.
        checkpoint_id: the job's new checkpoint, which the entry then names; null or None: there is none.
    """
    trains = changed.c.kind == WorkKind.TRAIN
    kinds, subjects = [(trains, _kind(YardEventKind.JOB))], [(trains, changed.c.id)]
    if checkpoint_id is not None:
        kinds.insert(0, (checkpoint_id.is_not(None), _kind(YardEventKind.CHECKPOINT)))
        subjects.insert(0, (checkpoint_id.is_not(None), checkpoint_id))
    columns: dict[str, ColumnElement[Any]] = {
        "number": next_event_number(),
        "owner": changed.c.owner,
        "kind": case(*kinds, else_=_kind(YardEventKind.DATASET)),
        "subject_id": case(*subjects, else_=changed.c.dataset_id),
    }
    told = changed.c.kind.in_((WorkKind.TRAIN, WorkKind.VALIDATE))
    return insert(YardEvent).from_select(list(columns), select(*columns.values()).where(told))


def _kind(kind: YardEventKind) -> ColumnElement[Any]:
    return literal_column(f"'{kind.value}'", Text())


def tell_of_work(session: Session, changed: Any, checkpoint_id: str | None) -> None:
    """Write the same entry in a statement of its own, from a row with these columns."""
    if changed.kind is WorkKind.VALIDATE:
        tell(session, changed.owner, YardEventKind.DATASET, changed.dataset_id)
    elif changed.kind is WorkKind.TRAIN and checkpoint_id is not None:
        tell(session, changed.owner, YardEventKind.CHECKPOINT, checkpoint_id)
    elif changed.kind is WorkKind.TRAIN:
        tell(session, changed.owner, YardEventKind.JOB, changed.id)


@dataclass(frozen=True)
class Extent:
    """How far the log goes."""

    drawn: int  #: the highest number that was drawn; its entry may be missing for now, or for ever
    complete: int  #: no entry with this number or a lower one will be added any more

    def has(self, number: int) -> bool:
        """Whether a reader who knows all entries up to a number can go on from there."""
        return self.drawn - KEPT <= number <= self.drawn


def read_extent(session: Session) -> Extent:
    """Read how far the log goes. Read entries up to `complete` in a later statement.

    The order of the two looks on PostgreSQL matters: a transaction that takes its lock after the second look draws its
    number after the first. `complete` may be lower than an earlier reader's, which stays true.
    """
    if session.get_bind().dialect.name != "postgresql":
        newest = int(session.connection().execute(_newest()).scalar_one())
        return Extent(newest, newest)
    drawn = int(session.connection().execute(_LAST_DRAWN).scalar_one())
    in_use = session.connection().execute(_LOWEST_IN_USE).scalar_one_or_none()
    return Extent(drawn, drawn if in_use is None else min(drawn, int(in_use) - LOCKS_FROM))


@cache
def _newest() -> Select[int]:
    return select(func.coalesce(func.max(YardEvent.number), 0))


def list_entries(
    session: Session, *, after: int, upto: int, limit: int, owner: str | None = None
) -> Sequence[YardEvent]:
    """Return the entries between two numbers, in their order.

    Args:
        session: any.
        after: the last number that is known.
        upto: the last that is wanted: what was found complete before.
        limit: the most.
        owner: only what this owner is told; None: what anybody is.
    """
    query = select(YardEvent).where(YardEvent.number > after, YardEvent.number <= upto)
    if owner is not None:
        query = query.where(or_(YardEvent.owner == owner, YardEvent.owner.is_(None)))
    return session.scalars(query.order_by(YardEvent.number).limit(limit)).all()


def trim(session: Session) -> int:
    """Remove entries that no reader may begin at any more, once there are enough of them.

    An entry is kept for a while longer than `Extent.has` says, for a reader that has just asked.

    Returns:
        The number of entries that are gone.
    """
    ends = select(func.min(YardEvent.number), func.max(YardEvent.number))
    oldest, newest = session.connection().execute(ends).one()
    if oldest is None or newest - oldest < KEPT + 2 * TRIMMED_AT_ONCE:
        return 0
    gone = delete(YardEvent).where(YardEvent.number <= newest - KEPT - TRIMMED_AT_ONCE)
    return session.connection().execute(gone).rowcount
