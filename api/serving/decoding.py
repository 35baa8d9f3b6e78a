"""Turns an image file's bytes into a network's input: small files in threads of this process, large ones in others.

A small image takes some milliseconds. A large one may take seconds and hundreds of megabytes; this can be stopped in a
process but not in a thread (`alexnet_core.data.decoder_process`). So a small image never waits for a large one.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Sequence
from queue import SimpleQueue
from typing import Any

from alexnet_core.data.decoder_process import DecoderProcess
from alexnet_core.data.images import decode_if_small
from alexnet_core.data.tiny import is_tiny
from api.observability.serving_observer import ServingObserver, SilentObserver
from api.serving.batching import Model
from api.serving.turns import FairPool, Turn
from trainyard.errors import PredictQueueFull

MAX_THREADS = 4
PROCESSES = 2  #: started when the first large image comes; one request gets one of them at a time


class Decoding:
    """Threads that decode and preprocess; requests take turns."""

    def __init__(self, max_pixels: int, observer: ServingObserver | None = None) -> None:
        self._max_pixels, self._observer = max_pixels, observer or SilentObserver()
        self._small = FairPool(max(2, min(MAX_THREADS, os.cpu_count() or 2)), "decode")
        self._large = FairPool(PROCESSES, "decode-large")
        self._idle: SimpleQueue[DecoderProcess] = SimpleQueue()
        self._processes = [DecoderProcess(max_pixels=max_pixels) for _ in range(PROCESSES)]
        for process in self._processes:
            self._idle.put(process)

    async def to_input(self, turn: Turn, model: Model, data: bytes) -> Any:
        """Return the input of one image. Cancelling removes it from the queue.

        Raises:
            ImageError: it can't be read, or is too large.
            PredictQueueFull: no process can be started for it just now.
        """
        small = await self.to_small_input(turn, model, data)
        if small is not None:
            return small
        return await asyncio.wrap_future(self._large.submit(turn, self._decode_large, model, data))

    async def to_small_input(self, turn: Turn, model: Model, data: bytes) -> Any | None:
        """Return the input of one image. None: it is a large one, which takes a process.

        Raises:
            ImageError: it can't be read, or is too large.
        """
        return await asyncio.wrap_future(self._small.submit(turn, self._try_small, model, data))

    def decode_at_once(self, model: Model, data: bytes) -> Any | None:
        """Return the input of an image that takes a small part of a millisecond, in this thread. None: it takes more.

        Raises:
            ImageError: it can't be read.
        """
        return self._try_small(model, data, told=False) if is_tiny(data) else None

    def tell_decoded_at_once(self, seconds: Sequence[float]) -> None:
        """Tell the observer how long images took that were decoded at once."""
        self._observer.decoded(seconds, large=False)

    def stop(self) -> None:
        """End the threads and processes."""
        self._small.stop()
        self._large.stop()
        for process in self._processes:
            process.close()

    def _try_small(self, model: Model, data: bytes, *, told: bool = True) -> Any | None:
        began = time.perf_counter()
        pixels = decode_if_small(data, max_pixels=self._max_pixels)
        if pixels is None:
            return None
        model_input = model.preprocess(pixels)
        if told:
            self._observer.decoded([time.perf_counter() - began], large=False)
        return model_input

    def _decode_large(self, model: Model, data: bytes) -> Any:
        process = self._idle.get()
        began = time.perf_counter()
        try:
            pixels_HWC = process.decode(data)
        except OSError as exc:
            raise PredictQueueFull(retry_after_s=1) from exc
        finally:
            self._idle.put(process)
        model_input = model.preprocess(pixels_HWC)
        self._observer.decoded([time.perf_counter() - began], large=True)
        return model_input
