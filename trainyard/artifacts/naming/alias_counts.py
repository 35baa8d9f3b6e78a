"""What was answered for aliases, counted by move and side. Serving processes count in memory and add it here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from trainyard.database.tables import AliasCount
from trainyard.errors import Conflict
from trainyard.states import Side

_SHORTEST_MS = 0.01
_GROWTH = 1.1  #: a latency class ends at so many times the end of the one before: a quantile is at most 10 % too high


class CountKey(NamedTuple):
    """The side of an alias that is counted, since the move of this version."""

    owner: str
    name: str
    version: int
    side: Side


@dataclass
class Counts:
    """What one side did."""

    answers: int = 0  #: images
    errors: int = 0  #: images that it should have answered and could not
    agreed: int = 0  #: of a shadow's answers: those with the answer's first class
    dropped: int = 0  #: images that a shadow left out
    latencies: Counter[int] = field(default_factory=Counter)  #: answers by `latency_class`

    def add_answer(self, latency_ms: float) -> None:
        """Count an answer."""
        self.answers += 1
        self.latencies[latency_class(latency_ms)] += 1

    def add(self, other: Counts) -> None:
        """Add what another process, or an earlier moment, counted."""
        self.answers += other.answers
        self.errors += other.errors
        self.agreed += other.agreed
        self.dropped += other.dropped
        self.latencies.update(other.latencies)

    def quantile_ms(self, share: float) -> float | None:
        """Return a latency that this share of the answers did not exceed; None: there are no answers."""
        rank, seen = share * self.latencies.total(), 0
        for number in sorted(self.latencies):
            seen += self.latencies[number]
            if seen >= rank:
                return round(_GROWTH**number, 3)
        return None


def latency_class(latency_ms: float) -> int:
    """Return the number of the class that a latency is counted in: the smallest whose end is not below it."""
    return math.ceil(math.log(max(latency_ms, _SHORTEST_MS)) / math.log(_GROWTH))


def add_counts(session: Session, counted: Mapping[CountKey, Counts]) -> None:
    """Add counts to those in the database.

    Raises:
        Conflict: another process began the same count at this moment: nothing was added, so try again.
    """
    for key, counts in sorted(counted.items()):
        row = session.get(AliasCount, tuple(key), with_for_update=True, populate_existing=True)
        total = Counts() if row is None else _of(row)
        total.add(counts)
        if row is None:
            session.add(row := AliasCount(**key._asdict()))
        for name, value in _columns(total).items():
            setattr(row, name, value)
        try:
            session.flush()
        except IntegrityError as exc:
            raise Conflict from exc


def read_counts(
    session: Session, owner: str, versions: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], dict[Side, Counts]]:
    """Return the counts of moves, given by name and version, by side. A move that nobody asked since has none."""
    wanted = set(versions)
    rows = select(AliasCount).where(
        AliasCount.owner == owner,
        AliasCount.name.in_({name for name, _ in wanted}),
        AliasCount.version.in_({version for _, version in wanted}),
    )
    found: dict[tuple[str, int], dict[Side, Counts]] = {key: {} for key in wanted}
    for row in session.scalars(rows):
        if (row.name, row.version) in wanted:
            found[row.name, row.version][row.side] = _of(row)
    return found


def _columns(counts: Counts) -> dict[str, Any]:
    latencies = {str(number): count for number, count in counts.latencies.items()}
    return {name: getattr(counts, name) for name in ("answers", "errors", "agreed", "dropped")} | {
        "latencies": latencies
    }


def _of(row: AliasCount) -> Counts:
    latencies = Counter({int(number): count for number, count in row.latencies.items()})
    return Counts(row.answers, row.errors, row.agreed, row.dropped, latencies)
