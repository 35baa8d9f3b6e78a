"""The predict engine: chooses the model that answers, and turns image bytes into probabilities.

Images are decoded by `Decoding` and computed in the batcher's one thread. Requests take turns, one image each. Models
are loaded in the loader's thread, while others go on serving. A request for `latest` is answered by the newest
publication that *is* loaded, so a new checkpoint never makes anybody wait, and the publication number that answers
never goes backwards.
"""

from __future__ import annotations

import asyncio
import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_core.errors import ImageError
from alexnet_core.insight.serving_facts import ServingFacts
from api.observability.serving_observer import ServingObserver, SilentObserver
from api.serving.alias_table import AliasUpkeep
from api.serving.alias_traffic import AliasTraffic
from api.serving.batching import Batcher, Computed
from api.serving.decoding import Decoding
from api.serving.image_arrays import to_model_input
from api.serving.interface import (
    Classified,
    ImageForm,
    Inferred,
    Label,
    ModelDescription,
    ModelState,
    Outcome,
    Then,
)
from api.serving.loading import Loaded, Loader
from api.serving.plain_predictions import Plain, PlainPredictions, Times
from api.serving.refusals import Refusal, say_which
from api.serving.resolution import Choice, Resolution
from api.serving.runtime import Runtime
from api.serving.shadows import Shadows
from api.serving.turns import Turn
from api.thread_priority import Pace
from trainyard import tracing
from trainyard.artifacts.calibrations import read_calibration
from trainyard.database.connection import Database
from trainyard.errors import InvalidRequest, PredictQueueFull, ServiceError, TooLarge, Unavailable
from trainyard.image_refusals import refuse_image
from trainyard.serving_errors import CheckpointUnusable
from trainyard.settings import Settings
from trainyard.storage.interface import Storage

log = logging.getLogger(__name__)

FOLLOW_EVERY_S = 0.02
WAITING_PART = 4  #: of the places for predictions, one in so many may be held by a request whose model is not loaded
MAX_FACTS = 1000  # checkpoints whose calibration is remembered


@dataclass(frozen=True)
class Answer:
    """The answer for one image."""

    probabilities: Sequence[float] | NDArray[np.float64]
    class_names: tuple[str, ...]
    preprocess_ms: float
    queue_ms: float
    inference_ms: float
    log_sum: float = 0.0  #: see `Rows`

    def top(self, k: int) -> list[tuple[str, int, float]]:
        """Return the `k` most probable classes (all, if there are fewer): name, index, probability."""
        values = np.asarray(self.probabilities)
        best = np.argsort(-values, kind="stable")[:k]
        return [
            (self.class_names[index], index, value)
            for index, value in zip(best.tolist(), values[best].tolist(), strict=True)
        ]


class Engine:
    """Does all that is between a request's bytes and its predictions. Made once in a process; `start` before use."""

    def __init__(
        self,
        settings: Settings,
        database: Database,
        storage: Storage,
        runtime: Runtime,
        observer: ServingObserver | None = None,
    ) -> None:
        self._settings, self._observer = settings, observer or SilentObserver()
        self._loader = Loader(
            *(database, storage, runtime),
            max_loaded=settings.max_loaded_models,
            max_bytes=settings.max_loaded_bytes,
            observer=observer,
            pause=Pace(lambda: self._admitted > 0).pause,
        )
        self._batcher = Batcher(settings.max_batch, observer)
        self._decoding = Decoding(settings.max_image_pixels, observer)
        self._lookups = ThreadPoolExecutor(4, thread_name_prefix="lookup")
        self._traffic = AliasTraffic(database)
        wait_s, most = settings.model_wait_s, max(1, settings.max_queued_predictions // WAITING_PART)
        around = (database, self._loader, self._lookups, self._traffic)
        self._resolution = Resolution(*around, wait_s=wait_s, max_waiting=most)
        self._shadows = Shadows(self._loader, self._resolution, self._decoding, self._batcher, self._traffic)
        self._plain = PlainPredictions(
            *(self._resolution, self._decoding, self._batcher),
            admit=self.admit,
            release=self.release,
            note=self._note_plain,
            usual=self.classify,
        )
        self._upkeep = AliasUpkeep(self._resolution.aliases, self._traffic.write)
        self._database = database
        self._facts: dict[str, ServingFacts] = {}
        self._lock = threading.Lock()
        self._admitted = 0

    def start(self) -> None:
        """Start to load torch and the newest checkpoint in the background."""
        self._batcher.start()
        self._loader.start()
        self._upkeep.start()

    async def stop(self) -> None:
        """See `ServingEngine`."""
        await asyncio.get_running_loop().run_in_executor(None, self._stop)

    def _stop(self) -> None:
        """End all threads; images that wait are still computed."""
        self._decoding.stop()
        self._lookups.shutdown(wait=True, cancel_futures=True)
        self._batcher.stop()
        self._loader.stop()
        self._upkeep.stop()

    @property
    def model_state(self) -> ModelState:
        """See `ServingEngine`."""
        return self._loader.state

    async def find_model(self, owner: str, reference: str, sticky: str | None = None) -> Choice:
        """Choose the model that answers a request, see `Resolution.choose`."""
        return await self._resolution.choose(owner, reference, sticky)

    def note(self, choice: Choice, images: list[bytes] | None, outcomes: Sequence[Answer | object]) -> None:
        """Count for an alias what came of a request, and let its shadow compute the same images afterwards.

        Args:
            choice: what answered.
            images: the files; None: they were given as arrays, which a shadow leaves out.
            outcomes: an answer, or why there is none, for each of them.
        """
        if choice.entry is None:
            return
        for number, outcome in enumerate(outcomes):
            if isinstance(outcome, Answer):
                took_ms = outcome.preprocess_ms + outcome.queue_ms + outcome.inference_ms
                self._traffic.answered(choice.entry, choice.side, took_ms)
                if images is not None:
                    self._shadows.offer(choice, images[number], outcome.top(1)[0][0])
            elif not isinstance(outcome, ServiceError) or outcome.status == 500:  # else the image was refused
                self._traffic.failed(choice.entry, choice.side)

    async def warm(self, owner: str, checkpoint_ids: dict[str, str]) -> None:
        """Load checkpoints and compute an image with each, so that whatever names them from now on answers at once.

        Args:
            owner: whose.
            checkpoint_ids: by the field of the request that names each.

        Raises:
            CheckpointUnusable: one is damaged, gone, or gives no numbers.
            Unavailable: one can't be read now, or is still being loaded: try again.
        """
        for param, checkpoint_id in checkpoint_ids.items():
            try:
                loaded = await self._resolution.load(owner, checkpoint_id)
                await self._try_out(loaded)
                self._resolution.aliases.note_loaded(checkpoint_id)
            except (Unavailable, CheckpointUnusable) as exc:  # perhaps another request's, too: this one's is its own
                raise type(exc)(exc.message, param=param, retry_after_s=exc.retry_after_s) from exc
            except Exception as exc:
                reason = exc.message if isinstance(exc, ServiceError) else f"{type(exc).__name__}: {exc}"
                raise CheckpointUnusable(f"checkpoint {checkpoint_id} can't be used: {reason}", param=param) from exc

    async def _try_out(self, loaded: Loaded) -> None:
        """Compute a grey image.

        Raises:
            CheckpointUnusable: what comes out are no probabilities.
        """
        grey_HWC = np.full((64, 64, 3), 128, np.uint8)
        model_input = await self._in_pool(self._lookups, loaded.model.preprocess, grey_HWC)
        done = await asyncio.wrap_future(self._batcher.put(loaded.model, model_input))
        if not all(math.isfinite(value) for value in done.probabilities):
            raise CheckpointUnusable(f"checkpoint {loaded.checkpoint_id} gives probabilities that are no numbers")

    async def follow_alias(self, owner: str, name: str, version: int | None) -> None:
        """Return when this process answers for an alias by this version or a newer one, at most after `model_wait_s`.

        Args:
            owner: whose.
            name: of the alias.
            version: None: the alias was deleted.
        """
        deadline = time.monotonic() + self._settings.model_wait_s
        while time.monotonic() < deadline:
            await self._in_pool(self._lookups, self._resolution.aliases.refresh)
            entry = self._resolution.aliases.find(owner, name)
            if version is None or (entry is not None and entry.version >= version):
                return
            await asyncio.sleep(FOLLOW_EVERY_S)
        log.warning("an alias was moved, and this process does not know of it yet", extra={"alias": name})

    async def forget(self, job_id: str) -> None:
        """See `ServingEngine`."""
        self._loader.forget(job_id)

    def admit(self, images: int) -> None:
        """Count images in before any of them is decoded; `release` counts them out.

        Raises:
            PredictQueueFull: too many are on their way already.
            TooLarge: they are more than ever fit.
        """
        room = self._settings.max_queued_predictions
        if images > room:
            raise TooLarge(f"{images} images in one request: send at most {room}", param="file")
        with self._lock:
            if self._admitted + images > room:
                raise PredictQueueFull(retry_after_s=1)
            self._admitted += images
            self._observer.queued(self._admitted)

    def release(self, images: int) -> None:
        """The opposite of `admit`."""
        with self._lock:
            self._admitted -= images
            self._observer.queued(self._admitted)

    async def classify(
        self,
        owner: str,
        reference: str,
        images: list[bytes],
        top_k: int,
        sticky: str | None = None,
        calibrated: bool = False,
    ) -> Classified:
        """See `ServingEngine`."""
        choice, turn = await self.find_model(owner, reference, sticky), Turn()
        self.admit(len(images))
        try:
            working = (self._answer(choice.loaded, data, turn) for data in images)
            outcomes = await asyncio.gather(*working, return_exceptions=True)
        finally:
            self.release(len(images))
        self.note(choice, images, outcomes)
        facts = await self._find_facts(choice.loaded.checkpoint_id) if calibrated else None
        return Classified(choice.describe(), [_to_outcome(outcome, top_k, facts) for outcome in outcomes], facts)

    def predict_plainly(self, owner: str, reference: str, image: bytes, top_k: int, then: Then) -> Callable[[], object]:
        """See `ServingEngine`."""
        return self._plain.predict(owner, reference, image, top_k, then)

    def _note_plain(self, plain: Plain, answered: tuple[Sequence[Label], Times] | None) -> None:
        """Count for an alias what came of a plain prediction; None: it failed."""
        choice = plain.choice
        if choice.entry is None:
            return
        if answered is None:
            self._traffic.failed(choice.entry, choice.side)
            return
        labels, times_ms = answered
        self._traffic.answered(choice.entry, choice.side, sum(times_ms))
        self._shadows.offer(choice, plain.image, labels[0][0])

    async def _find_facts(self, checkpoint_id: str) -> ServingFacts | None:
        """Return what a checkpoint's calibration says for predictions. None: it has none yet."""
        if (known := self._facts.get(checkpoint_id)) is not None:
            return known
        facts: ServingFacts | None = await self._in_pool(self._lookups, self._read_facts, checkpoint_id)
        if facts is not None:
            if len(self._facts) >= MAX_FACTS:
                self._facts.clear()
            self._facts[checkpoint_id] = facts
        return facts

    def _read_facts(self, checkpoint_id: str) -> ServingFacts | None:
        with self._database.reading() as session:
            found = read_calibration(session, checkpoint_id)
        return None if found is None else ServingFacts.model_validate(found)

    async def _answer(self, loaded: Loaded, data: bytes, turn: Turn) -> Answer:
        try:
            return await self.predict(loaded, data, turn)
        except ImageError as exc:
            raise refuse_image(exc) from exc

    async def predict(self, model: Loaded, data: bytes, turn: Turn) -> Answer:
        """Decode, preprocess and compute one image that was admitted. Cancelling removes it from the queue.

        Args:
            model: which one.
            data: the image's file.
            turn: of the request that it came with.

        Raises:
            ImageError: it can't be read, or is too large.
            PredictQueueFull: it is large, and the machine has no room for a process just now.
        """
        started = time.perf_counter()
        with tracing.span("decode"):
            model_input = await self._decoding.to_input(turn, model.model, data)
        preprocess_ms = 1000 * (time.perf_counter() - started)
        pending: Future[Computed] = self._batcher.put(model.model, model_input, turn)
        done = await asyncio.wrap_future(pending)
        times_ms = (preprocess_ms, done.queue_ms, done.inference_ms)
        return Answer(done.probabilities, model.model.class_names, *times_ms, done.log_sum)

    async def describe(self, owner: str, reference: str) -> ModelDescription:
        """See `ServingEngine`."""
        choice = await self.find_model(owner, reference)
        model = choice.loaded.model
        agreement = self._loader.comparison.agreements.get(choice.loaded.checkpoint_id)
        names = list(model.class_names)
        return ModelDescription(choice.describe(), names, model.input_shape, model.precision, agreement)

    async def infer(
        self,
        owner: str,
        reference: str,
        images: list[bytes],
        form: ImageForm,
        shape: list[int],
        num_named: int,
        sticky: str | None = None,
    ) -> Inferred:
        """See `ServingEngine`."""
        choice, turn = await self.find_model(owner, reference, sticky), Turn()
        self.admit(len(images))
        try:
            working = (self._infer_one(choice.loaded, data, turn, form, shape) for data in images)
            outcomes = await asyncio.gather(*working, return_exceptions=True)
        finally:
            self.release(len(images))
        self.note(choice, images if form is ImageForm.FILES else None, outcomes)
        answers = []
        for number, outcome in enumerate(outcomes):
            if not isinstance(outcome, Answer):
                raise say_which(outcome, number, len(images))
            answers.append(outcome)
        probabilities = [[float(value) for value in answer.probabilities] for answer in answers]
        if not all(math.isfinite(value) for row in probabilities for value in row):
            raise InvalidRequest("the network computes no numbers for these images", param="inputs")
        named = [[name for name, *_ in answer.top(num_named)] for answer in answers]
        return Inferred(choice.describe(), probabilities, named)

    async def _infer_one(self, loaded: Loaded, data: bytes, turn: Turn, form: ImageForm, shape: list[int]) -> Answer:
        if form is ImageForm.FILES:
            return await self._answer(loaded, data, turn)
        started = time.perf_counter()
        model_input = await self._in_pool(self._lookups, to_model_input, loaded.model, form, shape, data)
        preprocess_ms = 1000 * (time.perf_counter() - started)
        done = await asyncio.wrap_future(self._batcher.put(loaded.model, model_input, turn))
        return Answer(done.probabilities, loaded.model.class_names, preprocess_ms, done.queue_ms, done.inference_ms)

    async def list_loaded(self) -> list[str]:
        """See `ServingEngine`."""
        return sorted(self._loader.loaded_ids)

    async def unload(self, checkpoint_id: str) -> bool:
        """See `ServingEngine`."""
        return self._loader.unload(checkpoint_id)

    @staticmethod
    async def _in_pool(pool: ThreadPoolExecutor, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *args)


def _to_outcome(outcome: Answer | BaseException, top_k: int, facts: ServingFacts | None) -> Outcome:
    """Return what came of an image. An error that is no refusal is raised."""
    if isinstance(outcome, Answer):
        times_ms = (outcome.preprocess_ms, outcome.queue_ms, outcome.inference_ms)
        if facts is None:
            return Outcome(outcome.top(top_k), *times_ms)
        calibrated = replace(outcome, probabilities=facts.calibrate(outcome.probabilities))
        return Outcome(calibrated.top(top_k), *times_ms, unfamiliarity=-outcome.log_sum)
    if isinstance(outcome, ServiceError) and type(outcome) is not ServiceError:
        return Outcome([], 0, 0, 0, Refusal.of(outcome))
    raise outcome
