"""One inference thread. It computes all images that wait for the same model together, and never waits for more."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol

log = logging.getLogger(__name__)


class Model(Protocol):
    """A network with its preprocessing and class names, ready to predict."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by index."""
        ...

    def preprocess(self, image_HWC: Any) -> Any:
        """A decoded image as the network's input; may run in any thread."""
        ...

    def compute(self, inputs: list[Any]) -> list[list[float]]:
        """Class probabilities of preprocessed images; runs in the inference thread only."""
        ...


@dataclass(frozen=True)
class Computed:
    """The result for one image."""

    probabilities: list[float]
    queue_ms: float  #: between the image being ready and the start of its batch
    inference_ms: float  #: of the whole batch that it was in
    batch_size: int


@dataclass
class _Item:
    model: Model
    input: Any
    future: Future[Computed]
    ready_at: float


class Batcher(threading.Thread):
    """The inference thread. The engine limits how many images may wait."""

    def __init__(self, max_batch: int, prepare_thread: Callable[[], None]) -> None:
        super().__init__(name="inference", daemon=True)
        self._max_batch, self._prepare_thread = max_batch, prepare_thread
        self._waiting: deque[_Item] = deque()
        self._changed = threading.Condition()
        self._stopped = False

    def put(self, model: Model, model_input: Any) -> Future[Computed]:
        """Queue one preprocessed image; cancelling the future takes it out again."""
        future: Future[Computed] = Future()
        with self._changed:
            if self._stopped:
                future.cancel()
                return future
            self._waiting.append(_Item(model, model_input, future, time.perf_counter()))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Finish what waits, then end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self.is_alive():
            self.join(timeout=10)

    def run(self) -> None:
        """The thread's body."""
        prepared = False
        while batch := self._take():
            if not prepared:  # a model is loaded by now, and torch with it
                self._prepare_thread()
                prepared = True
            self._compute(batch)

    def _take(self) -> list[_Item]:
        """The oldest image and all others that wait for the same model; empty: it is time to end."""
        with self._changed:
            while True:
                while not self._waiting:
                    if self._stopped:
                        return []
                    self._changed.wait()
                model = self._waiting[0].model
                batch: list[_Item] = []
                others: list[_Item] = []
                for item in self._waiting:
                    (batch if item.model is model and len(batch) < self._max_batch else others).append(item)
                self._waiting = deque(others)
                if alive := [item for item in batch if item.future.set_running_or_notify_cancel()]:
                    return alive

    def _compute(self, batch: list[_Item]) -> None:
        started = time.perf_counter()
        try:
            rows = batch[0].model.compute([item.input for item in batch])
        except Exception as exc:
            log.exception("a batch of predictions failed", extra={"images": len(batch)})
            for item in batch:
                item.future.set_exception(exc)
            return
        inference_ms = 1000 * (time.perf_counter() - started)
        for item, row in zip(batch, rows, strict=True):
            item.future.set_result(Computed(row, 1000 * (started - item.ready_at), inference_ms, len(batch)))
