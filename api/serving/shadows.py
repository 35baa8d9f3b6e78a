"""Computes with an alias's shadow what its other sides have answered, and counts how often it says the same.

It begins when the answer is on its way, one image at a time, and leaves an image out rather than let anybody wait: when
images wait to be computed, when the one before is not done, when the image is large, or when the shadow is not loaded.
"""

from __future__ import annotations

import asyncio
import logging

from api.serving.alias_table import Entry
from api.serving.alias_traffic import AliasTraffic
from api.serving.batching import Batcher
from api.serving.decoding import Decoding
from api.serving.loading import Loaded, Loader
from api.serving.resolution import Choice, Resolution
from api.serving.turns import Turn
from trainyard.states import Side

log = logging.getLogger(__name__)

AFTER_S = 0.005  # by then the answer that it follows has been handed on


class Shadows:
    """The shadows of all aliases. Used in the event loop only."""

    def __init__(
        self, loader: Loader, resolution: Resolution, decoding: Decoding, batcher: Batcher, traffic: AliasTraffic
    ) -> None:
        self._loader, self._resolution, self._decoding = loader, resolution, decoding
        self._batcher, self._traffic = batcher, traffic
        self._running: asyncio.Task[None] | None = None

    def offer(self, choice: Choice, data: bytes, label: str) -> None:
        """Compare an answer later, if there is nothing better to do then.

        Args:
            choice: what answered.
            data: the image's file.
            label: the most probable class of its answer.
        """
        entry = choice.entry
        if entry is None or entry.shadow_id is None:
            return
        if self._running is not None and not self._running.done():
            self._traffic.dropped(entry)
            return
        self._running = asyncio.get_running_loop().create_task(self._compare(entry, entry.shadow_id, data, label))

    async def _compare(self, entry: Entry, shadow_id: str, data: bytes, label: str) -> None:
        await asyncio.sleep(AFTER_S)
        shadow = self._loader.find(shadow_id)
        if shadow is None:
            self._traffic.dropped(entry)
            await self._resolution.load_later(entry.owner, shadow_id)
            return
        try:
            await self._compare_with(entry, shadow, data, label)
        except Exception:
            log.exception("a shadow failed", extra={"alias": entry.name, "checkpoint": shadow_id})
            self._traffic.failed(entry, Side.SHADOW)

    async def _compare_with(self, entry: Entry, shadow: Loaded, data: bytes, label: str) -> None:
        loop, turn = asyncio.get_running_loop(), Turn()
        started = loop.time()
        is_idle = self._batcher.num_waiting == 0
        model_input = await self._decoding.to_small_input(turn, shadow.model, data) if is_idle else None
        if model_input is None or self._batcher.num_waiting > 0:
            self._traffic.dropped(entry)
            return
        done = await asyncio.wrap_future(self._batcher.put(shadow.model, model_input, turn))
        self._traffic.answered(entry, Side.SHADOW, 1000 * (loop.time() - started))
        best = max(range(len(done.probabilities)), key=lambda index: (done.probabilities[index], -index))
        if shadow.model.class_names[best] == label:
            self._traffic.agreed(entry)
