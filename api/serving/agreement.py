"""Compares a model that computes in bf16 with the same network in fp32, on the test images of its dataset.

It is done in the loading thread when there is nothing to load, some images at a time. A model that disagrees too often
is replaced by the one in fp32.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from alexnet_core.data.pack import Pack, open_pack
from alexnet_core.layout import STATE, pack_key
from api.serving.batching import Model
from api.serving.interface import Agreement
from api.serving.runtime import Runtime
from trainyard.database.connection import Database
from trainyard.database.tables import Checkpoint, Job
from trainyard.storage.interface import Storage
from trainyard.storage.local import LocalStorage

log = logging.getLogger(__name__)

MIN_SHARE = 0.995  #: of the images, on which both name the same class first
MAX_IMAGES = 1000
STEP_IMAGES = 16  #: between two looks whether there is something to load
MAX_REMEMBERED = 300  #: checkpoints


@dataclass(frozen=True)
class Compared:
    """What came of a comparison."""

    agreement: Agreement
    exact: Model  #: the same network in fp32


class Comparison:
    """Compares checkpoints of one yard, one after the other, and remembers what came of it."""

    def __init__(self, database: Database, storage: Storage, runtime: Runtime) -> None:
        self._database, self._storage, self._runtime = database, storage, runtime
        self._running: tuple[str, Iterator[Compared | None]] | None = None
        self.agreements: dict[str, Agreement] = {}  #: of models in bf16, by checkpoint

    def disagrees(self, checkpoint_id: str) -> bool:
        """Whether a checkpoint is known to answer otherwise in bf16 too often."""
        agreement = self.agreements.get(checkpoint_id)
        return agreement is not None and agreement.share < MIN_SHARE

    def go_on(self, checkpoint_id: str, model: Model, must_stop: Callable[[], bool]) -> Model | None:
        """Compare a model with itself in fp32 until that is done or something else has to be.

        Returns:
            The one in fp32, if it is to serve instead.
        """
        if model.precision == "fp32" or checkpoint_id in self.agreements:
            return None
        if self._running is None or self._running[0] != checkpoint_id:
            self._running = (checkpoint_id, self.run(checkpoint_id))
        try:
            for compared in self._running[1]:
                if compared is not None:
                    return self._remember(checkpoint_id, compared)
                if must_stop():
                    return None
        except Exception:
            log.warning("a model can't be compared with fp32", exc_info=True, extra={"checkpoint": checkpoint_id})
            self._running = (checkpoint_id, iter(()))
        return None

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

    def run(self, checkpoint_id: str) -> Iterator[Compared | None]:
        """Compare a checkpoint, and yield None after some images each, then the result if there is one.

        There is none where the dataset is not on this machine: it is not fetched for this alone.
        """
        if not isinstance(self._storage, LocalStorage):
            return
        with self._database.reading() as session:
            found = select(Checkpoint.key, Job.dataset_id).join(Job, Job.id == Checkpoint.job_id)
            row = session.execute(found.where(Checkpoint.id == checkpoint_id)).one_or_none()
        if row is None:
            return
        with self._storage.materialise(pack_key(row.dataset_id)) as folder:
            pack = open_pack(folder)
            indices = choose_images(pack)
            if not len(indices):
                return
            with self._storage.materialise(row.key, without=STATE) as of_checkpoint:
                model = self._runtime.load(of_checkpoint)  # another one: the one that serves computes in its own thread
                exact = self._runtime.load_exactly(of_checkpoint)
            agreeing = 0
            for start in range(0, len(indices), STEP_IMAGES):
                images = [np.array(pack.images[index]) for index in indices[start : start + STEP_IMAGES]]
                first, second = ([_best(row) for row in _compute(one, images)] for one in (model, exact))
                agreeing += sum(a == b for a, b in zip(first, second, strict=True))
                yield None
        yield Compared(Agreement(agreeing / len(indices), len(indices)), exact)


def choose_images(pack: Pack) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Return the positions of test images, or of validation images if there are none: spread evenly over all."""
    indices = next((found for split in ("test", "validation") if len(found := pack.list_indices(split))), None)
    if indices is None:
        return np.array([], dtype=np.int64)
    places = np.linspace(0, len(indices) - 1, min(MAX_IMAGES, len(indices))).astype(np.int64)
    return np.asarray(indices[places])


def _compute(model: Model, images: list[np.ndarray]) -> list[list[float]]:
    return [list(row) for row in model.compute([model.preprocess(image) for image in images]).probabilities]


def _best(row: list[float]) -> int:
    return int(np.argmax(row))
