"""Computes the digest that identifies a pack: the sha256 over its facts and its arrays. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_core.config import DatasetFacts

FORMAT_VERSION = 1
_CHUNK_BYTES = 1 << 23


def rows_a_chunk(row_shape: tuple[int, ...]) -> int:
    """Return how many rows of an array are read at a time."""
    return max(1, _CHUNK_BYTES // max(1, prod(row_shape)))


def start_digest(facts: DatasetFacts) -> hashlib._Hash:
    """Start the sha256 over the dataset's facts, except its name, and every byte of its arrays."""
    content = facts.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps([FORMAT_VERSION, content], sort_keys=True).encode())


def update_digest(digest: hashlib._Hash, *arrays: NDArray[Any], after_each: Callable[[], None] = lambda: None) -> None:
    """Add every byte of some arrays, little-endian, in chunks. `after_each` is called after each chunk."""
    for array in arrays:
        step = rows_a_chunk((array.itemsize, *array.shape[1:]))
        for start in range(0, len(array), step):
            chunk = array[start : start + step]
            digest.update(np.ascontiguousarray(chunk, dtype=chunk.dtype.newbyteorder("<")).data)
            after_each()
