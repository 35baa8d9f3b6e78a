"""Compares models that compute in bf16 with the same networks in fp32, on the test images of their datasets.

It is done in the loading thread when there is nothing to load, one model after the other and some images at a time. A
model that disagrees too often is replaced by the one in fp32.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from alexnet_core.layout import STATE, pack_key
from api.reading.sampled_images import sampling
from api.serving.batching import Model
from api.serving.interface import Agreement
from api.serving.runtime import Runtime, go_on
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, Job
from trainyard.errors import DatabaseUnavailable, StorageUnavailable
from trainyard.storage.interface import Storage

log = logging.getLogger(__name__)

MIN_SHARE = 0.995  #: of the images, on which both name the same class first
TRY_AGAIN_S = 600.0  #: after a comparison failed: the store may answer then
MAX_REMEMBERED = 300  #: checkpoints


@dataclass(frozen=True)
class Compared:
    """What came of a comparison."""

    agreement: Agreement
    exact: Model  #: the same network in fp32


class Comparison:
    """Compares checkpoints of one yard, one after the other, and remembers what came of it."""

    def __init__(
        self, database: Database, storage: Storage, runtime: Runtime, pause: Callable[[], object] = go_on
    ) -> None:
        self._database, self._storage, self._runtime, self._pause = database, storage, runtime, pause
        self._running: tuple[str, Generator[Compared | None, None, None]] | None = None
        self._not_before: dict[str, float] = {}  # those that could not be compared
        self.agreements: dict[str, Agreement] = {}  #: of models in bf16, by checkpoint

    @property
    def running_id(self) -> str | None:
        """The checkpoint whose comparison has begun."""
        return None if self._running is None else self._running[0]

    def disagrees(self, checkpoint_id: str) -> bool:
        """Whether a checkpoint is known to answer otherwise in bf16 too often."""
        agreement = self.agreements.get(checkpoint_id)
        return agreement is not None and agreement.share < MIN_SHARE

    def is_due(self, checkpoint_id: str, model: Model) -> bool:
        """Whether a model is to be compared."""
        if model.precision == "fp32" or checkpoint_id in self.agreements:
            return False
        return time.monotonic() >= self._not_before.get(checkpoint_id, 0.0)

    def go_on(self, checkpoint_id: str, must_stop: Callable[[], bool]) -> Model | None:
        """Compare a checkpoint with itself in fp32 until that is done or something else has to be.

        Another one that was begun is given up.

        Returns:
            The one in fp32, if it is to serve instead.
        """
        if self._running is None or self._running[0] != checkpoint_id:
            self._give_up()
            self._running = (checkpoint_id, self.run(checkpoint_id))
        try:
            for compared in self._running[1]:
                if compared is not None:
                    self._give_up()
                    return self._remember(checkpoint_id, compared)
                if must_stop():
                    return None
            self._pass_over(checkpoint_id, float("inf"))  # there is nothing to compare it on
        except Exception as exc:
            is_away = isinstance(exc, DatabaseUnavailable | StorageUnavailable)
            told = {"checkpoint": checkpoint_id}
            log.warning("a model can't be compared with fp32 now: %s", exc, exc_info=not is_away, extra=told)
            self._pass_over(checkpoint_id, time.monotonic() + TRY_AGAIN_S)
        return None

    def _give_up(self) -> None:
        if self._running is not None:
            self._running[1].close()
            self._running = None

    def _pass_over(self, checkpoint_id: str, until: float) -> None:
        self._running = None
        newest = [*self._not_before.items()][1 - MAX_REMEMBERED :]
        self._not_before = dict([*newest, (checkpoint_id, until)])

    def _remember(self, checkpoint_id: str, compared: Compared) -> Model | None:
        newest = [*self.agreements.items()][1 - MAX_REMEMBERED :]
        self.agreements = dict([*newest, (checkpoint_id, compared.agreement)])
        if not self.disagrees(checkpoint_id):
            return None
        log.warning(
            "bf16 disagrees with fp32 too often: fp32 serves",
            extra={"checkpoint": checkpoint_id, "share": compared.agreement.share},
        )
        return compared.exact

    def run(self, checkpoint_id: str) -> Generator[Compared | None, None, None]:
        """Compare a checkpoint, and yield None after some images each, then the result if there is one."""
        with self._database.reading() as session:
            found = select(Checkpoint.key, Job.dataset_id).join(Job, Job.id == Checkpoint.job_id)
            row = session.execute(found.where(Checkpoint.id == checkpoint_id)).one_or_none()
        if row is None:
            return
        model, exact, agreeing, num_images = None, None, 0, 0
        with sampling(self._storage, pack_key(row.dataset_id)) as steps:
            for images in steps:
                if images is not None:
                    if model is None or exact is None:
                        with self._storage.materialise(row.key, without=STATE) as folder:
                            model = self._runtime.load(folder)  # the one that serves computes in its own thread
                            exact = self._runtime.load_exactly(folder)
                    first, second = ([_best(row) for row in _compute(one, images)] for one in (model, exact))
                    agreeing += sum(a == b for a, b in zip(first, second, strict=True))
                    num_images += len(images)
                    self._pause()
                yield None
        if exact is not None:
            yield Compared(Agreement(agreeing / num_images, num_images), exact)


def _compute(model: Model, images: list[np.ndarray]) -> list[list[float]]:
    return [list(row) for row in model.compute([model.preprocess(image) for image in images]).probabilities]


def _best(row: list[float]) -> int:
    return int(np.argmax(row))
