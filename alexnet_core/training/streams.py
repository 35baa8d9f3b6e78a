"""The random numbers of a run. They are drawn from its seed wherever they are needed, so they have no state to save.

Each purpose has a stream of its own, so that an option that draws more leaves the numbers of the others unchanged. A
stream's number must never change or be used for something else: it determines the bits of every run.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What a random number is for."""

    ORDER = 1  #: in which order an epoch's images come
    MOVES = 2  #: of each image in an epoch: mirroring, shift, turn and scale
    DROPOUT = 3  #: in each step: which units are left out
    FIRST_WEIGHTS = 4  #: once
    CROPS_AND_COLOURS = 5  #: of each image in an epoch: place of its square, amounts of the principal colours
    ERASING = 6  #: of each image in an epoch: whether a rectangle is erased, and which
    RESIZED_CROPS = 7  #: of each image in an epoch: area and shape of the part that is shown


def seed_torch(seed: int, stream: Stream, index: int = 0, rank: int = 0) -> int:
    """Return the seed for torch's generator.

    Args:
        seed: of the run.
        stream: what is drawn.
        index: the step, where something is drawn in each.
        rank: of this process; the first one draws what one that is alone would.
    """
    entropy = [seed, int(stream), index, *([rank] if rank else [])]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1


def draw_in_epoch(seed: int, stream: Stream, epoch: int) -> np.random.Generator:
    """Return a generator for what is drawn once in an epoch; it is the same in all processes."""
    return np.random.default_rng([seed, epoch, int(stream)])
