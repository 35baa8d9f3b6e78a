"""How many images are computed together: sizes that the engines compute without waste, and for how long at most.

A request for another model than the one that is computed waits for the batch that has begun. So a batch takes at most
`BATCH_S`, and longer ones, which make an image cheaper, are computed only while nobody asks for another model.
"""

from __future__ import annotations

import math
from weakref import ReferenceType, ref

BATCH_S = 0.06
LONG_BATCH_S = 0.16
LONG_AFTER_S = 10.0  # with requests for one model only


class Demand:
    """Knows whether one model alone is being asked for. Not safe between threads: its owner has the lock."""

    def __init__(self) -> None:
        self._model: ReferenceType[object] | None = None  #: that was asked for last
        self._changed_at = -math.inf  #: when another one was asked for than before

    def note(self, model: object, at: float) -> None:
        """Take note of an image for a model.

        Args:
            model: that is asked for.
            at: when, by `time.perf_counter`.
        """
        last = None if self._model is None else self._model()
        if model is last:
            return
        if self._model is not None:
            self._changed_at = at
        self._model = ref(model)

    def longest_batch_s(self, at: float) -> float:
        """Return how long a batch may take.

        Args:
            at: when its first image came.
        """
        return LONG_BATCH_S if at - self._changed_at >= LONG_AFTER_S else BATCH_S


def most_within(seconds: float, image_s: float, limit: int) -> int:
    """Return how many images can be computed within some seconds, at least one.

    Args:
        seconds: at most.
        image_s: one image's share; 0: unknown.
        limit: images at most.
    """
    if image_s <= 0:
        return limit
    return max(1, min(limit, round_batch_down(int(seconds / image_s))))


def round_batch_up(images: int) -> int:
    """The size that a batch of so many images is computed in: exact up to 8, then four steps to each doubling.

    oneDNN, which both engines compute with, keeps compiled kernels for each size that it has seen, and what they keep
    in memory lies between the memory of the batches, which then can't be given back. Of 64 sizes 20 are left, and no
    batch computes a quarter more.
    """
    step = _step(images)
    return -(-images // step) * step


def round_batch_down(images: int) -> int:
    """The largest such size that is no larger: with it nothing is computed in vain."""
    step = _step(images + 1)  # 17 images are in the next doubling, but the size below them is 16
    return images // step * step


def _step(images: int) -> int:
    step: int = 1 << max(0, (images - 1).bit_length() - 3)
    return step
