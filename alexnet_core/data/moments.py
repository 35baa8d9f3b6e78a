"""Computes mean, deviation and covariance of the colours of many images, exactly and in small parts. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAMES = ("mean", "std", "covariance")
_CHUNK_PIXELS = 1 << 15  # a megabyte of numbers, which stays in a core's cache


class Moments:
    """Mean and deviation of each channel and the channels' covariance, over the pixels that were added.

    Sums of products of bytes are whole numbers, so nothing is rounded before the last division.
    """

    def __init__(self, channels: int) -> None:
        self._count = 0
        self._sums = np.zeros(channels, dtype=np.int64)
        self._products = np.zeros((channels, channels), dtype=np.int64)

    def add(self, images_BHWC: NDArray[np.uint8]) -> None:
        """Add the pixels of some images."""
        pixels = images_BHWC.reshape(-1, len(self._sums))
        for start in range(0, len(pixels), _CHUNK_PIXELS):
            exact_CN = np.ascontiguousarray(pixels[start : start + _CHUNK_PIXELS].T).astype(np.float64)  # below 2^53
            self._sums += exact_CN.sum(axis=1).astype(np.int64)
            self._products += (exact_CN @ exact_CN.T).astype(np.int64)
        self._count += len(pixels)

    def summary(self) -> dict[str, Any]:
        """Return `mean` and `std` by channel in 0..255 units and `covariance` in squared units; 0 without pixels."""
        total = max(1, self._count)
        mean = self._sums / total
        covariance = self._products / total - np.outer(mean, mean)
        std = np.sqrt(np.maximum(np.diag(covariance), 0))
        return {"mean": mean.tolist(), "std": std.tolist(), "covariance": covariance.tolist()}


def hash_moments(summary: Mapping[str, Any]) -> str:
    """Return a sha256 that tells whether a summary is still the one that was written."""
    return hashlib.sha256(json.dumps([summary[name] for name in _NAMES]).encode()).hexdigest()
