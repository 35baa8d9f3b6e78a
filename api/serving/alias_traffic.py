"""Counts in memory what each side of an alias answers; `AliasUpkeep` adds it to the database once a second."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable

from api.serving.alias_table import Entry
from trainyard.artifacts.naming.alias_counts import CountKey, Counts, add_counts
from trainyard.database.connection import Database
from trainyard.states import Side


class AliasTraffic:
    """Safe to use from several threads."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._lock = threading.Lock()
        self._counted: defaultdict[CountKey, Counts] = defaultdict(Counts)

    def answered(self, entry: Entry, side: Side, latency_ms: float) -> None:
        """Count an image that a side answered."""
        self._change(entry, side, lambda counts: counts.add_answer(latency_ms))

    def failed(self, entry: Entry, side: Side, images: int = 1) -> None:
        """Count images that a side should have answered and could not."""
        self._change(entry, side, lambda counts: counts.add(Counts(errors=images)))

    def agreed(self, entry: Entry) -> None:
        """Count a shadow's answer with the same first class as the answer that was given."""
        self._change(entry, Side.SHADOW, lambda counts: counts.add(Counts(agreed=1)))

    def dropped(self, entry: Entry, images: int = 1) -> None:
        """Count images that a shadow left out."""
        self._change(entry, Side.SHADOW, lambda counts: counts.add(Counts(dropped=images)))

    def write(self) -> None:
        """Add to the database what was counted since the last time; if that fails, it is added the next time.

        Raises:
            DatabaseUnavailable, Conflict: see there.
        """
        with self._lock:
            counted, self._counted = self._counted, defaultdict(Counts)
        if not counted:
            return
        try:
            with self._database.writing() as session:
                add_counts(session, counted)
        except Exception:
            with self._lock:
                for key, counts in counted.items():
                    self._counted[key].add(counts)
            raise

    def _change(self, entry: Entry, side: Side, change: Callable[[Counts], None]) -> None:
        with self._lock:
            change(self._counted[CountKey(entry.owner, entry.name, entry.version, side)])
