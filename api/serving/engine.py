"""The predict engine: chooses the model that answers, and turns image bytes into probabilities.

Images are decoded by `Decoding` and computed in the batcher's one thread. Requests take turns, one image each. Models
are loaded in the loader's thread, while others go on serving. A request for `latest` is answered by the newest
publication that *is* loaded, so a new checkpoint never makes anybody wait, and the publication number that answers
never goes backwards.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from api.serving.batching import Batcher, Computed
from api.serving.decoding import Decoding
from api.serving.loading import Loaded, Loader
from api.serving.runtime import Runtime
from api.serving.turns import Turn
from trainyard.artifacts.checkpoints import LATEST, get_latest, resolve_model
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint
from trainyard.errors import CheckpointNotFound, CheckpointPruned, ModelLoading, PredictQueueFull, TooLarge
from trainyard.settings import Settings
from trainyard.storage.interface import Storage

MAX_LOOKUPS = 10  # of one request: every one but the last found a checkpoint that was gone when it was to be loaded


@dataclass(frozen=True)
class Answer:
    """The answer for one image."""

    probabilities: Sequence[float] | NDArray[np.float64]
    class_names: tuple[str, ...]
    preprocess_ms: float
    queue_ms: float
    inference_ms: float

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

    def __init__(self, settings: Settings, database: Database, storage: Storage, runtime: Runtime) -> None:
        self._settings, self._database = settings, database
        self._loader = Loader(database, storage, runtime, max_loaded=settings.max_loaded_models)
        self._batcher = Batcher(settings.max_batch)
        self._decoding = Decoding(settings.max_image_pixels)
        self._lookups = ThreadPoolExecutor(4, thread_name_prefix="lookup")
        self._lock = threading.Lock()
        self._admitted = 0

    def start(self) -> None:
        """Start to load torch and the newest checkpoint in the background."""
        self._batcher.start()
        self._loader.start()

    def stop(self) -> None:
        """End all threads; images that wait are still computed."""
        self._decoding.stop()
        self._lookups.shutdown(wait=True, cancel_futures=True)
        self._batcher.stop()
        self._loader.stop()

    @property
    def model_state(self) -> str:
        """Return `ok` if `latest` can answer, `loading` if it is being loaded, `none` if there is nothing to load."""
        return self._loader.state

    async def find_model(self, owner: str, reference: str) -> Loaded:
        """Return the loaded model that a reference names. Waits for it if no older one can answer.

        Raises:
            ModelLoading: it takes longer than `model_wait_s`.
            ServiceError: what `checkpoints.resolve_model` raises.
        """
        if reference == LATEST and (latest := self._loader.latest) is not None and latest.owner == owner:
            return latest
        deadline = time.monotonic() + self._settings.model_wait_s
        for _ in range(MAX_LOOKUPS):
            checkpoint = await self._in_pool(self._lookups, self._look_up, owner, reference)
            try:
                return await self._wait_for(checkpoint, deadline)
            except (CheckpointNotFound, CheckpointPruned):  # damaged, or pruned before it was read: what is it now?
                if reference == checkpoint.id:
                    raise
            except Exception:
                if reference != LATEST or checkpoint.id not in self._loader.unusable:
                    raise
        raise ModelLoading(
            f"the checkpoints of {reference} are changing too fast: try again in a moment", retry_after_s=1
        )

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
            return resolve_model(session, owner, reference)

    def forget(self, job_id: str) -> None:
        """Unload the models of a deleted job."""
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

    def release(self, images: int) -> None:
        """The opposite of `admit`."""
        with self._lock:
            self._admitted -= images

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
        model_input = await self._decoding.to_input(turn, model.model, data)
        preprocess_ms = 1000 * (time.perf_counter() - started)
        pending: Future[Computed] = self._batcher.put(model.model, model_input, turn)
        done = await asyncio.wrap_future(pending)
        return Answer(done.probabilities, model.model.class_names, preprocess_ms, done.queue_ms, done.inference_ms)

    @staticmethod
    async def _in_pool(pool: ThreadPoolExecutor, function: Callable[..., Any], *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(pool, function, *args)
