"""One inference thread, which computes images that wait for the same model together and never waits for more.

Requests take turns: a batch takes one image of each request, then a second of each, until it is full. A batch that
would compute for longer than `BATCH_S` is made smaller, so that a request for another model waits no longer than that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from api.observability.serving_observer import ServingObserver, SilentObserver
from api.serving.turns import FairQueue, Turn
from trainyard import tracing

log = logging.getLogger(__name__)

BATCH_S = 0.06


@dataclass(frozen=True)
class Rows:
    """What a model computes for a batch, a row for each image."""

    probabilities: Sequence[Sequence[float]] | NDArray[np.float64]
    log_sums: Sequence[float]  #: logarithm of the summed exponentials of the image's logits


class Model(Protocol):
    """A network with its preprocessing and class names, ready to predict."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names by index."""
        ...

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of the network's input."""
        ...

    @property
    def precision(self) -> str:
        """What it computes in: `fp32` or `bf16`."""
        ...

    def take_input(self, values_CHW: NDArray[np.float32]) -> Any:
        """Turn an input that a client has standardised into what `compute` takes."""
        ...

    def preprocess(self, image_HWC: Any) -> Any:
        """Turn a decoded image into the network's input; may run in any thread."""
        ...

    def compute(self, inputs: list[Any]) -> Rows:
        """Compute preprocessed images; runs only in the inference thread."""
        ...


@dataclass(frozen=True)
class Computed:
    """The result for one image."""

    probabilities: Sequence[float] | NDArray[np.float64]
    log_sum: float  #: see `Rows`
    queue_ms: float  #: between the image being ready and the start of its batch
    inference_ms: float  #: of the whole batch that it was in
    batch_size: int


@dataclass
class _Item:
    model: Model
    input: Any
    future: Future[Computed]
    ready_at: float
    trace: str | None  #: the context of its request's span; None: it is not traced


class Batcher(threading.Thread):
    """The inference thread. The engine limits how many images may wait."""

    def __init__(self, max_batch: int, observer: ServingObserver | None = None) -> None:
        super().__init__(name="inference", daemon=True)
        self._max_batch, self._observer = max_batch, observer or SilentObserver()
        self._waiting: FairQueue[_Item] = FairQueue()
        self._image_s: WeakKeyDictionary[Model, float] = WeakKeyDictionary()  #: an image's share of the fastest batch
        self._changed = threading.Condition()
        self._stopped = False

    @property
    def num_waiting(self) -> int:
        """How many images wait to be computed."""
        with self._changed:
            return len(self._waiting)

    def put(self, model: Model, model_input: Any, turn: Turn | None = None) -> Future[Computed]:
        """Queue one preprocessed image. Cancelling the future removes it again.

        Args:
            model: that is to compute it.
            model_input: made by the model's `preprocess`.
            turn: of the request that it came with; None: it came alone.
        """
        future: Future[Computed] = Future()
        with self._changed:
            if self._stopped:
                future.cancel()
                return future
            self._waiting.put(turn or Turn(), _Item(model, model_input, future, time.perf_counter(), tracing.current()))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Finish what is waiting, then end the thread."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        if self.is_alive():
            self.join(timeout=10)

    def run(self) -> None:
        """The thread's body."""
        while batch := self._take():
            try:
                self._compute(batch)
            except Exception:  # of what observes: the thread goes on for everybody else
                log.exception("a batch of predictions can't be told of")

    def _take(self) -> list[_Item]:
        """Return the image whose turn it is, with others for the same model; empty: time to end."""
        with self._changed:
            while True:
                while (first := self._waiting.take()) is None:
                    if self._stopped:
                        return []
                    self._changed.wait()
                batch = [first[1], *self._take_more(first[1].model)]
                if alive := [item for item in batch if item.future.set_running_or_notify_cancel()]:
                    return alive

    def _take_more(self, model: Model) -> Iterator[_Item]:
        for _ in range(self._most_at_once(model) - 1):
            if (more := self._waiting.take(lambda _, item: item.model is model)) is None:
                return
            yield more[1]

    def _most_at_once(self, model: Model) -> int:
        """Return how many images can be computed within `BATCH_S`, by the fastest batch so far."""
        image_s = self._image_s.get(model, 0)
        return self._max_batch if image_s <= 0 else max(1, min(self._max_batch, int(BATCH_S / image_s)))

    def _compute(self, batch: list[_Item]) -> None:
        started = time.perf_counter()
        try:
            rows = batch[0].model.compute([item.input for item in batch])
        except Exception as exc:
            log.exception("a batch of predictions failed", extra={"images": len(batch)})
            for item in batch:
                item.future.set_exception(exc)
            return
        took_s = time.perf_counter() - started
        model = batch[0].model
        self._image_s[model] = min(took_s / len(batch), self._image_s.get(model, took_s))
        inference_ms = 1000 * took_s
        for item, row, log_sum in zip(batch, rows.probabilities, rows.log_sums, strict=True):
            waited_ms = 1000 * (started - item.ready_at)
            item.future.set_result(Computed(row, log_sum, waited_ms, inference_ms, len(batch)))
        self._observer.computed(len(batch), took_s, [started - item.ready_at for item in batch])
        if traced := [item for item in batch if item.trace is not None]:
            _trace(traced, len(batch), started)


def _trace(items: list[_Item], images: int, began_at: float) -> None:
    """Record a batch that is computed, in the trace of its first image and linked to the others'; and in each of them
    how long the image waited for it.
    """
    contexts = [item.trace for item in items if item.trace is not None]
    size = {"images": images}
    batch = tracing.record("batch", began_at, parent=contexts[0], links=contexts[1:], attributes=size)
    for item in items:
        tracing.record("queue", item.ready_at, parent=item.trace, links=[batch] if batch else [], ended_at=began_at)
