"""The aliases as this process serves them: it follows the database, and takes over a move once its models are loaded.

So a move that another machine made never makes anybody wait, and a checkpoint that can't be loaded leaves the ones
before it serving. The version of an alias never goes back.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from api.serving.loading import Loader
from trainyard.artifacts.aliases import get_alias, list_all_aliases
from trainyard.artifacts.checkpoints import get_checkpoint
from trainyard.database.connection import Database
from trainyard.database.tables import Alias
from trainyard.errors import DatabaseUnavailable, ServiceError

log = logging.getLogger(__name__)

POLL_S = 1.0
MAX_PROVEN = 300


@dataclass(frozen=True)
class Entry:
    """What an alias names, since the move of this version."""

    owner: str
    name: str
    version: int
    checkpoint_id: str
    canary_id: str | None
    canary_share: float
    shadow_id: str | None

    @classmethod
    def of(cls, row: Alias) -> Entry:
        """Read it from the alias's row."""
        ids = (row.checkpoint_id, row.canary_id, row.canary_share or 0.0, row.shadow_id)
        return cls(row.owner, row.name, row.version, *ids)

    @property
    def checkpoint_ids(self) -> list[str]:
        """The checkpoints that it names, the stable one first."""
        return [it for it in (self.checkpoint_id, self.canary_id, self.shadow_id) if it is not None]


class AliasTable:
    """Every owner's aliases. Safe to use from several threads."""

    def __init__(self, database: Database, loader: Loader) -> None:
        self._database, self._loader = database, loader
        self._entries: dict[tuple[str, str], Entry] = {}
        self._refreshing = threading.Lock()
        self._complained: set[tuple[str, str, int]] = set()
        self._proven: deque[str] = deque(maxlen=MAX_PROVEN)

    def find(self, owner: str, name: str) -> Entry | None:
        """Return what an alias names here. None: this process has not seen it yet."""
        return self._entries.get((owner, name))

    def get(self, owner: str, name: str) -> Entry:
        """Return what an alias names, and read the database if this process has not seen it yet.

        Raises:
            AliasNotFound: there is no such alias.
            DatabaseUnavailable: it can't be looked up.
        """
        if (known := self.find(owner, name)) is not None:
            return known
        with self._database.reading() as session:
            read = Entry.of(get_alias(session, owner, name, param="model"))
        self.refresh()
        return self.find(owner, name) or read

    def refresh(self) -> None:
        """Read all aliases, take over the moves whose models are loaded, and ask for the models of the others.

        Raises:
            DatabaseUnavailable: nothing has changed here.
        """
        with self._refreshing:
            with self._database.reading() as session:
                rows = {(row.owner, row.name): Entry.of(row) for row in list_all_aliases(session)}
            taken = dict[tuple[str, str], Entry]()
            room = self._loader.room
            for key, row in rows.items():
                before = self._entries.get(key)
                if before is None:  # nothing older can answer: loaded now if there is room, else when it is used
                    room -= self._ask_for(row, at_most=room)
                    taken[key] = row
                elif row.version == before.version or self._ask_for(row) == 0:
                    taken[key] = row
                else:
                    taken[key] = before
            self._entries = taken
            self._loader.preferred = frozenset(it for entry in taken.values() for it in entry.checkpoint_ids)

    def _ask_for(self, row: Entry, *, at_most: int | None = None) -> int:
        """Have the models of an entry loaded, and return how many of them are not yet."""
        missing = [it for it in row.checkpoint_ids if it not in self._proven and self._loader.find(it) is None]
        for checkpoint_id in missing[:at_most]:
            try:
                self.ask_for(row.owner, checkpoint_id)
            except DatabaseUnavailable:
                raise
            except ServiceError as exc:
                if (mark := (row.owner, row.name, row.version)) not in self._complained:
                    self._complained.add(mark)
                    extra = {"alias": row.name, "version": row.version, "detail": exc.message}
                    log.error("a move of an alias can't be followed: what it named before goes on serving", extra=extra)
        return len(missing) if at_most is None else min(at_most, len(missing))

    def ask_for(self, owner: str, checkpoint_id: str) -> None:
        """Have a model loaded in the background.

        Raises:
            ServiceError: it can't be used.
        """
        with self._database.reading() as session:
            loading = self._loader.want(get_checkpoint(session, owner, checkpoint_id))
        loading.add_done_callback(lambda done: None if done.exception() else self.note_loaded(checkpoint_id))

    def note_loaded(self, checkpoint_id: str) -> None:
        """Know that a checkpoint can be loaded, also if it is unloaded again before a move that names it is read."""
        self._proven.append(checkpoint_id)


class AliasUpkeep(threading.Thread):
    """The thread that follows the aliases of the database, and writes to it what was counted."""

    def __init__(self, table: AliasTable, write_counts: Callable[[], None]) -> None:
        super().__init__(name="aliases", daemon=True)
        self._table, self._write_counts = table, write_counts
        self._stopped = threading.Event()

    def run(self) -> None:
        """The thread's body."""
        while not self._stopped.is_set():
            self._attempt(self._table.refresh)
            self._attempt(self._write_counts)
            self._stopped.wait(POLL_S)

    def stop(self) -> None:
        """End the thread, and write what is still to be written."""
        self._stopped.set()
        if self.is_alive():
            self.join(timeout=10)
        self._attempt(self._write_counts)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except DatabaseUnavailable:
            return
        except Exception:
            log.exception("the aliases can't be followed now; trying again")
