"""One inference thread, which computes images that wait for the same model together and never waits for more. A caller
that has one image of a fast network may compute it itself while nothing else is to be done.

Requests take turns: a batch takes one image of each request, then a second of each, until it is full. A batch that
would take too long is made smaller, so that a request for another model does not wait for long: see `batch_sizes`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from api.observability.serving_observer import ServingObserver, SilentObserver
from api.serving.batch_sizes import Demand, most_within
from api.serving.turns import FairQueue, Turn
from trainyard import tracing

log = logging.getLogger(__name__)

AT_ONCE_S = 0.003  # an event loop may stand still for as long as that


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

    def preprocess(self, image: Any) -> Any:
        """Turn an image's `Pixels` into the network's input; may run in any thread."""
        ...

    def compute(self, inputs: list[Any]) -> Rows:
        """Compute preprocessed images; runs in one thread at a time."""
        ...


@dataclass(frozen=True)
class Computed:
    """The result for one image."""

    probabilities: Sequence[float] | NDArray[np.float64]
    log_sum: float  #: see `Rows`
    queue_ms: float  #: between the image being ready and the start of its batch
    inference_ms: float  #: of the whole batch that it was in
    batch_size: int


@dataclass(frozen=True)
class Batch:
    """What came of images that were computed together."""

    rows: Rows | None  #: None: it failed
    error: Exception | None
    started: float  #: by `time.perf_counter`
    took_s: float
    size: int


@dataclass(eq=False)
class Item:
    """An image that waits to be computed."""

    model: Model
    input: Any
    ready_at: float  #: by `time.perf_counter`
    trace: str | None  #: the context of its request's span; None: it is not traced
    inbox: Inbox

    def begin(self) -> bool:
        """Say in the inference thread whether somebody still waits for it: from now on it is computed."""
        return True


class Inbox(Protocol):
    """Takes what was computed, all images of a batch at once."""

    def deliver(self, items: Sequence[Item], places: Sequence[int], batch: Batch) -> None:
        """Take what came of items; called in the inference thread, so it must return at once.

        Args:
            items: whose inbox this is.
            places: their rows in the batch.
            batch: what they were computed in.
        """
        ...


@dataclass(eq=False)
class _FutureItem(Item):
    future: Future[Computed] = field(default_factory=Future)

    def begin(self) -> bool:
        return self.future.set_running_or_notify_cancel()


class _Futures:
    """The inbox of items that have a future each."""

    def deliver(self, items: Sequence[Item], places: Sequence[int], batch: Batch) -> None:
        for item, place in zip(items, places, strict=True):
            assert isinstance(item, _FutureItem)
            if batch.rows is None:
                item.future.set_exception(batch.error)
                continue
            row, log_sum = batch.rows.probabilities[place], batch.rows.log_sums[place]
            waited_ms, took_ms = 1000 * (batch.started - item.ready_at), 1000 * batch.took_s
            item.future.set_result(Computed(row, log_sum, waited_ms, took_ms, batch.size))


_FUTURES = _Futures()


class Batcher(threading.Thread):
    """The inference thread. The engine limits how many images may wait."""

    def __init__(self, max_batch: int, observer: ServingObserver | None = None) -> None:
        super().__init__(name="inference", daemon=True)
        self._max_batch, self._observer = max_batch, observer or SilentObserver()
        self._waiting: FairQueue[Item] = FairQueue()
        self._demand = Demand()
        self._image_s: WeakKeyDictionary[Model, float] = WeakKeyDictionary()  #: an image's share of the fastest batch
        self._alone_s: WeakKeyDictionary[Model, float] = WeakKeyDictionary()  #: the fastest batch of one image
        self._computing = threading.Lock()  #: held by the thread that computes
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
        item = _FutureItem(model, model_input, time.perf_counter(), tracing.current(), _FUTURES)
        if not self.add(item, turn or Turn()):
            item.future.cancel()
        return item.future

    def add(self, item: Item, turn: Turn) -> bool:
        """Queue an image whose inbox is told of it. False: nothing is computed any more."""
        with self._changed:
            if self._stopped:
                return False
            self._demand.note(item.model, item.ready_at)
            self._waiting.put(turn, item)
            self._changed.notify()
        return True

    @property
    def is_idle(self) -> bool:
        """Whether nothing is computed and nothing waits for it, though it could be."""
        return not (self._stopped or self._computing.locked() or len(self._waiting))

    def compute_at_once(self, item: Item) -> bool:
        """Compute an image in this thread, which takes no hand-over to another one and back.

        Returns:
            False: nothing was done, because something else is computed or waits, or because it would take longer than
            `AT_ONCE_S`, or nobody knows yet how long.
        """
        if self._alone_s.get(item.model, AT_ONCE_S) >= AT_ONCE_S or not self._computing.acquire(blocking=False):
            return False
        try:
            with self._changed:
                if self._stopped or len(self._waiting):
                    return False
                self._demand.note(item.model, item.ready_at)
            self._compute_and_tell([item])
            return True
        finally:
            self._computing.release()

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
            with self._computing:
                self._compute_and_tell(batch)

    def _take(self) -> list[Item]:
        """Return the image whose turn it is, with others for the same model; empty: time to end."""
        with self._changed:
            while True:
                while (first := self._waiting.take()) is None:
                    if self._stopped:
                        return []
                    self._changed.wait()
                batch = [first[1], *self._take_more(first[1])]
                if alive := [item for item in batch if item.begin()]:
                    return alive

    def _take_more(self, first: Item) -> Iterator[Item]:
        model = first.model
        seconds = self._demand.longest_batch_s(first.ready_at)
        for _ in range(most_within(seconds, self._image_s.get(model, 0), self._max_batch) - 1):
            if (more := self._waiting.take(lambda _, item: item.model is model)) is None:
                return
            yield more[1]

    def _compute_and_tell(self, items: list[Item]) -> None:
        try:
            self._compute(items)
        except Exception:  # of what observes: the thread goes on for everybody else
            log.exception("a batch of predictions can't be told of")

    def _compute(self, items: list[Item]) -> None:
        started, model = time.perf_counter(), items[0].model
        try:
            rows = model.compute([item.input for item in items])
        except Exception as exc:
            log.exception("a batch of predictions failed", extra={"images": len(items)})
            _deliver(items, Batch(None, exc, started, time.perf_counter() - started, len(items)))
            return
        took_s = time.perf_counter() - started
        self._image_s[model] = min(took_s / len(items), self._image_s.get(model, took_s))
        if len(items) == 1:
            self._alone_s[model] = min(took_s, self._alone_s.get(model, took_s))
        _deliver(items, Batch(rows, None, started, took_s, len(items)))
        self._observer.computed(len(items), took_s, [started - item.ready_at for item in items])
        if traced := [item for item in items if item.trace is not None]:
            _trace(traced, len(items), started)


def _deliver(items: list[Item], batch: Batch) -> None:
    places: defaultdict[Inbox, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[item.inbox].append(place)
    for inbox, its_places in places.items():
        inbox.deliver([items[place] for place in its_places], its_places, batch)


def _trace(items: list[Item], images: int, began_at: float) -> None:
    """Record a batch that is computed, in the trace of its first image and linked to the others'; and in each of them
    how long the image waited for it.
    """
    contexts = [item.trace for item in items if item.trace is not None]
    size = {"images": images}
    batch = tracing.record("batch", began_at, parent=contexts[0], links=contexts[1:], attributes=size)
    for item in items:
        tracing.record("queue", item.ready_at, parent=item.trace, links=[batch] if batch else [], ended_at=began_at)
