"""Predictions of one small image each, which need no coroutine, no future and no other thread than the batcher's.

For an image of 32x32 those would cost more than to decode it, and together as much as the network does. So the event
loop decodes such an image itself, and is woken once for each batch, whose answers it writes one after the other. What
is not small or has to wait for something is left to the engine's usual way.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from json.encoder import encode_basestring
from typing import Any

import numpy as np

from alexnet_core.errors import ImageError
from api.serving.batching import Batch, Batcher, Item
from api.serving.decoding import Decoding
from api.serving.interface import Classified, Label, ModelInfo, PlainAnswer, Then
from api.serving.resolution import Choice, Resolution
from api.serving.turns import Turn
from trainyard import tracing
from trainyard.errors import ServiceError
from trainyard.image_refusals import refuse_image

log = logging.getLogger(__name__)

Times = tuple[float, float, float]  #: preprocessing, waiting, computing: milliseconds


@dataclass(eq=False)
class Plain(Item):
    """A prediction that is under way."""

    choice: Choice
    image: bytes
    top_k: int
    then: Then
    preprocess_ms: float
    is_over: bool = False  #: it is answered, or nobody waits for it any more

    def begin(self) -> bool:
        """See `Item`."""
        return not self.is_over


class PlainPredictions:
    """Computes them. It is the inbox of all of them, and belongs to one event loop."""

    def __init__(
        self,
        resolution: Resolution,
        decoding: Decoding,
        batcher: Batcher,
        *,
        admit: Callable[[int], None],
        release: Callable[[int], None],
        note: Callable[[Plain, tuple[Sequence[Label], Times] | None], None],
        usual: Callable[[str, str, list[bytes], int], Coroutine[Any, Any, Classified]],
    ) -> None:
        """Make it.

        Args:
            resolution: finds models.
            decoding: decodes images.
            batcher: computes.
            admit: counts images in.
            release: counts images out that are over.
            note: is told of each answer; None: it could not be computed.
            usual: predicts what has to wait for something.
        """
        self._resolution, self._decoding, self._batcher = resolution, decoding, batcher
        self._admit, self._release, self._note, self._usual = admit, release, note, usual
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lone: Plain | None = None  #: the only one of this round of the event loop, while nothing is computed
        self._thread = 0  #: of that loop
        self._decoded_s: list[float] = []  # of images of which the observer is not told yet

    def predict(self, owner: str, reference: str, image: bytes, top_k: int, then: Then) -> Callable[[], object]:
        """See `ServingEngine.predict_plainly`."""
        try:
            plain = None if tracing.is_on() else self._begin_admitted(owner, reference, image, top_k, then)
        except Exception as exc:
            then(_to_refusal(exc))
            return _nothing
        if plain is not None:
            return partial(self.give_up, plain)
        usual = self._predict_as_usual(owner, reference, image, top_k, then)
        return asyncio.get_running_loop().create_task(usual).cancel

    def _begin_admitted(self, *asked: Any) -> Plain | None:
        self._admit(1)
        plain = None
        try:
            plain = self.begin(*asked)
        finally:
            if plain is None:
                self._release(1)
        return plain

    async def _predict_as_usual(self, owner: str, reference: str, image: bytes, top_k: int, then: Then) -> None:
        answer: PlainAnswer | ServiceError
        try:
            classified = await self._usual(owner, reference, [image], top_k)
            [outcome] = classified.outcomes
            if outcome.refusal is not None:
                answer = outcome.refusal.to_error()
            else:
                times_ms = (outcome.preprocess_ms, outcome.queue_ms, outcome.inference_ms)
                answer = write_answer(classified.model, outcome.labels, times_ms)
        except Exception as exc:
            answer = _to_refusal(exc)
        then(answer)

    def begin(self, owner: str, reference: str, image: bytes, top_k: int, then: Then) -> Plain | None:
        """Begin to predict an admitted image. None: it takes the usual way.

        Raises:
            ServiceError: the image can't be read, or nothing is computed any more.
        """
        choice = self._resolution.choose_at_once(owner, reference)
        if choice is None:
            return None
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        model, began = choice.loaded.model, time.perf_counter()
        try:
            model_input = self._decoding.decode_at_once(model, image)
        except ImageError as exc:
            raise refuse_image(exc) from exc
        if model_input is None:
            return None
        ready_at = time.perf_counter()
        self._decoded_s.append(ready_at - began)
        preprocess_ms = 1000 * (ready_at - began)
        plain = Plain(model, model_input, ready_at, None, self, choice, image, top_k, then, preprocess_ms)
        self._queue(plain)
        return plain

    def _queue(self, plain: Plain) -> None:
        """Queue what is begun. One alone is computed in this thread, once this round has shown that it is alone.

        Raises:
            ServiceError: nothing is computed any more.
        """
        if self._lone is None and self._loop is not None and self._batcher.is_idle:
            self._lone = plain
            self._loop.call_soon(self._compute_lone)
            return
        self._take_lone(self._add_late)
        if not self._batcher.add(plain, Turn()):
            raise ServiceError

    def _compute_lone(self) -> None:
        self._take_lone(self._compute_or_add)

    def _compute_or_add(self, lone: Plain) -> None:
        if not self._batcher.compute_at_once(lone):
            self._add_late(lone)

    def _take_lone(self, do: Callable[[Plain], None]) -> None:
        lone, self._lone = self._lone, None
        if lone is not None and lone.begin():
            do(lone)

    def _add_late(self, plain: Plain) -> None:
        if not self._batcher.add(plain, Turn()):
            self.give_up(plain)
            plain.then(ServiceError())

    def give_up(self, plain: Plain) -> None:
        """Forget a prediction that nobody waits for; harmless when it is over."""
        if not plain.is_over:
            plain.is_over = True
            self._release(1)
            self._tell_decoded()

    def deliver(self, items: Sequence[Item], places: Sequence[int], batch: Batch) -> None:
        """See `Inbox`."""
        assert self._loop is not None, "what is delivered was begun before"
        if threading.get_ident() == self._thread:
            self._hand_out(items, places, batch)
        else:
            self._loop.call_soon_threadsafe(self._hand_out, items, places, batch)

    def _hand_out(self, items: Sequence[Any], places: Sequence[int], batch: Batch) -> None:
        waiting = [(item, place) for item, place in zip(items, places, strict=True) if not item.is_over]
        self._tell_decoded()
        if not waiting:
            return
        for item, _ in waiting:
            item.is_over = True
        self._release(len(waiting))
        for item, answer in zip((item for item, _ in waiting), self._write(waiting, batch), strict=True):
            item.then(answer)

    def _tell_decoded(self) -> None:
        told, self._decoded_s = self._decoded_s, []
        if told:
            self._decoding.tell_decoded_at_once(told)

    def _write(self, waiting: list[tuple[Plain, int]], batch: Batch) -> list[PlainAnswer | ServiceError]:
        """Write the answers of a batch."""
        if batch.rows is None:
            for item, _ in waiting:
                self._note(item, None)
            return [ServiceError() for _ in waiting]
        try:
            return self._write_rows(waiting, batch, np.asarray(batch.rows.probabilities))
        except Exception:
            log.exception("answers of a batch can't be written", extra={"images": len(waiting)})
            return [ServiceError() for _ in waiting]

    def _write_rows(
        self, waiting: list[tuple[Plain, int]], batch: Batch, probabilities_BK: np.ndarray[Any, Any]
    ) -> list[PlainAnswer | ServiceError]:
        rows_BK = probabilities_BK[[place for _, place in waiting]]
        most = max(item.top_k for item, _ in waiting)
        best_BT = np.argsort(-rows_BK, axis=1, kind="stable")[:, :most]
        values_BT = rows_BK[np.arange(len(rows_BK))[:, None], best_BT]
        are_numbers = np.isfinite(values_BT).all(axis=1).tolist()
        names, took_ms = waiting[0][0].model.class_names, 1000 * batch.took_s
        heads: dict[tuple[object, ...], str] = {}
        answers: list[PlainAnswer | ServiceError] = []
        for (item, _), best, values, is_number in zip(
            waiting, best_BT.tolist(), values_BT.tolist(), are_numbers, strict=True
        ):
            if not is_number:
                self._note(item, None)
                answers.append(ServiceError())
                continue
            choice, k = item.choice, item.top_k
            key = (choice.loaded.checkpoint_id, choice.alias, choice.version)
            if (head := heads.get(key)) is None:
                head = heads[key] = write_head(choice.describe())
            labels = [(names[index], index, value) for index, value in zip(best[:k], values[:k], strict=True)]
            times = (item.preprocess_ms, 1000 * (batch.started - item.ready_at), took_ms)
            answers.append(PlainAnswer(choice.loaded.checkpoint_id, write_rest(head, labels, times)))
            self._note(item, (labels, times))
        return answers


def _to_refusal(exc: Exception) -> ServiceError:
    """Return what a client is told of an error; one that is no refusal is logged."""
    if isinstance(exc, ServiceError):
        return exc
    log.error("a prediction failed", exc_info=exc)
    return ServiceError()


def _nothing() -> None:
    """Give up what is over."""


def write_answer(model: ModelInfo, labels: Sequence[Label], times: Times) -> PlainAnswer:
    """Write an answer as its client gets it."""
    return PlainAnswer(model.checkpoint, write_rest(write_head(model), labels, times))


def write_head(model: ModelInfo) -> str:
    """Write the first part of an answer, which all answers of a model have in common."""
    described = json.dumps(asdict(model), ensure_ascii=False, separators=(",", ":"))
    return f'{{"model":{described},"predictions":['


def write_rest(head: str, labels: Sequence[Label], times: Times) -> bytes:
    """Write an answer to its last field, `total_ms`, which only the process knows that took the request."""
    named = ",".join(
        [
            f'{{"label":{encode_basestring(name)},"index":{index},"probability":{value!r}}}'
            for name, index, value in labels
        ]
    )
    preprocess_ms, queue_ms, inference_ms = times
    return (
        f'{head}{named}],"timing":{{"preprocess_ms":{round(preprocess_ms, 3)!r},"queue_ms":{round(queue_ms, 3)!r},'
        f'"inference_ms":{round(inference_ms, 3)!r},"total_ms":'
    ).encode()
