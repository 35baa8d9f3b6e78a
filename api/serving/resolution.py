"""Chooses the model that answers a request: from its reference, and for an alias with a canary by share."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from api.serving.alias_table import AliasTable, Entry
from api.serving.alias_traffic import AliasTraffic
from api.serving.interface import ModelInfo
from api.serving.loading import Loaded, Loader
from trainyard.artifacts.aliases import LATEST, is_alias_name
from trainyard.artifacts.checkpoints import get_checkpoint, get_latest, resolve_model
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint
from trainyard.errors import CheckpointNotFound, CheckpointPruned, ModelLoading, ServiceError
from trainyard.states import Side

MAX_LOOKUPS = 10  # of one request: every one but the last found a checkpoint that was gone when it was to be loaded

_CHANCE = random.Random()  # of its own, which nobody else can seed

T = TypeVar("T")


@dataclass(frozen=True)
class Choice:
    """The model that answers a request, and how it was chosen."""

    loaded: Loaded
    alias: str | None = None  #: `latest`, or the alias that the request named
    version: int | None = None  #: of the alias: its last move; of `latest`: the publication. It never goes back
    side: Side = Side.STABLE
    entry: Entry | None = None  #: of an alias

    def describe(self) -> ModelInfo:
        """Describe the model for the client."""
        loaded = self.loaded
        return ModelInfo(
            checkpoint=loaded.checkpoint_id,
            job=loaded.job_id,
            epoch=loaded.epoch,
            weights_sha256=loaded.weights_sha256,
            alias=self.alias,
            version=self.version,
            side=self.told_side,
        )

    @property
    def told_side(self) -> Side | None:
        """The side that answers, for the client. None: there is no canary to tell it from."""
        return self.side if self.entry is not None and self.entry.canary_id is not None else None


def choose_side(entry: Entry, sticky: str | None) -> Side:
    """Return the side of an alias that is to answer a request.

    Args:
        entry: what the alias names.
        sticky: a text of the client's: the same text is answered by the same side for as long as the canary is the same
            and its share does not fall below what it was. None: by chance.
    """
    if entry.canary_id is None:
        return Side.STABLE
    return Side.CANARY if _draw(entry, sticky) < entry.canary_share else Side.STABLE


def _draw(entry: Entry, sticky: str | None) -> float:
    if sticky is None:
        return _CHANCE.random()
    digest = hashlib.sha256(f"{entry.name}\n{entry.canary_id}\n{sticky}".encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:7]) / 2**56


class Resolution:
    """Finds loaded models. Its database work is done in a pool of threads."""

    def __init__(
        self,
        database: Database,
        loader: Loader,
        pool: ThreadPoolExecutor,
        traffic: AliasTraffic,
        *,
        wait_s: float,
        max_waiting: int,
    ) -> None:
        """Make it.

        Args:
            database: where checkpoints and aliases are found.
            loader: loads models.
            pool: in which the database is read.
            traffic: is told of canaries that could not answer.
            wait_s: that a request waits for its model at most.
            max_waiting: requests that wait for models other than `latest`. Each holds one of the places for
                predictions, and those for models that are loaded need some, too.
        """
        self._database, self._loader, self._pool, self._traffic = database, loader, pool, traffic
        self._wait_s, self._num_waiting, self._max_waiting = wait_s, 0, max_waiting
        self.aliases = AliasTable(database, loader)

    def choose_at_once(self, owner: str, reference: str) -> Choice | None:
        """Return the loaded model that `latest` or an alias names. None: `choose` must be asked."""
        if reference == LATEST:
            latest = self._loader.latest
            return None if latest is None or latest.owner != owner else Choice(latest, LATEST, latest.publication)
        if not is_alias_name(reference) or (entry := self.aliases.find(owner, reference)) is None:
            return None
        canary = None if entry.canary_id is None else self._loader.find(entry.canary_id)
        stable = self._loader.find(entry.checkpoint_id)
        if stable is None or (canary is None and entry.canary_id is not None):
            return None
        side = choose_side(entry, None)
        answering = canary if canary is not None and side is Side.CANARY else stable
        return Choice(answering, reference, entry.version, side, entry)

    async def choose(self, owner: str, reference: str, sticky: str | None = None) -> Choice:
        """Return the loaded model that a reference names. Waits for it if no older one can answer.

        Raises:
            ModelLoading: it takes longer than `model_wait_s`, or too many wait for models already.
            ServiceError: what `checkpoints.resolve_model` raises.
        """
        if reference == LATEST:
            latest = self._loader.latest
            if latest is None or latest.owner != owner:
                latest = await self._load(owner, LATEST)
            return Choice(latest, LATEST, latest.publication)
        if is_alias_name(reference):
            return await self._choose_for_alias(owner, reference, sticky)
        return Choice(await self._load(owner, reference))

    async def _choose_for_alias(self, owner: str, name: str, sticky: str | None) -> Choice:
        if (entry := self.aliases.find(owner, name)) is None:
            entry = await self._in_pool(lambda: self.aliases.get(owner, name))
        if choose_side(entry, sticky) is Side.CANARY and entry.canary_id is not None:
            if (canary := self._loader.find(entry.canary_id)) is not None:
                return Choice(canary, name, entry.version, Side.CANARY, entry)
            await self.load_later(owner, entry.canary_id)
            self._traffic.failed(entry, Side.CANARY)  # the stable one answers in its place
        stable = self._loader.find(entry.checkpoint_id) or await self._load(owner, entry.checkpoint_id)
        return Choice(stable, name, entry.version, Side.STABLE, entry)

    async def load(self, owner: str, checkpoint_id: str) -> Loaded:
        """Return the model of a checkpoint. Waits until it is loaded.

        Raises:
            ModelLoading: it takes longer than `model_wait_s`, or too many wait for models already.
            ServiceError: it can't be used.
        """
        return self._loader.find(checkpoint_id) or await self._load(owner, checkpoint_id)

    async def load_later(self, owner: str, checkpoint_id: str) -> None:
        """Have a model loaded in the background, if it can be used."""

        def ask() -> None:
            try:
                self.aliases.ask_for(owner, checkpoint_id)
            except ServiceError:
                return

        await self._in_pool(ask)

    async def _load(self, owner: str, reference: str) -> Loaded:
        deadline = time.monotonic() + self._wait_s
        for _ in range(MAX_LOOKUPS):
            checkpoint = await self._in_pool(lambda: self._look_up(owner, reference))
            try:
                if reference == LATEST:
                    return await self._wait_for(checkpoint, deadline)
                return await self._wait_in_line(checkpoint, deadline)
            except (CheckpointNotFound, CheckpointPruned):  # damaged, or pruned before it was read: what is it now?
                if reference == checkpoint.id:
                    raise
            except Exception:
                if reference != LATEST or checkpoint.id not in self._loader.unusable:
                    raise
        raise ModelLoading(
            f"the checkpoints of {reference} are changing too fast: try again in a moment", retry_after_s=1
        )

    async def _wait_in_line(self, checkpoint: Checkpoint, deadline: float) -> Loaded:
        if self._num_waiting >= self._max_waiting and self._loader.find(checkpoint.id) is None:
            raise ModelLoading(
                f"checkpoint {checkpoint.id} is not loaded, and too many requests wait for models that are not: try "
                "again in a moment",
                retry_after_s=2,
            )
        self._num_waiting += 1
        try:
            return await self._wait_for(checkpoint, deadline)
        finally:
            self._num_waiting -= 1

    async def _wait_for(self, checkpoint: Checkpoint, deadline: float) -> Loaded:
        waiting = asyncio.wrap_future(self._loader.want(checkpoint))
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), max(0.001, deadline - time.monotonic()))
        except TimeoutError:
            raise ModelLoading(
                f"checkpoint {checkpoint.id} is still being loaded: try again in a moment", retry_after_s=2
            ) from None

    def _look_up(self, owner: str, reference: str) -> Checkpoint:
        with self._database.reading() as session:
            if reference == LATEST:
                return get_latest(session, owner, skip=self._loader.unusable)
            if reference.startswith("ckpt_"):
                return get_checkpoint(session, owner, reference)
            return resolve_model(session, owner, reference)

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work)
