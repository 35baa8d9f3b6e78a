"""Computes mean, deviation and covariance of the colours of many images, exactly and in small parts. Torch-free."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NAMES = ("mean", "std", "covariance")
_CHUNK_PIXELS = 1 << 16  # sums of their squares stay below 2^32


def count_sums(channels: int) -> int:
    """Return how many numbers `sum_colours` gives for an image."""
    return channels + channels * (channels + 1) // 2


def sum_colours(pixels_PC: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return the sum of each channel over some pixels, and of each product of two channels: RR, RG, RB, GG, GB, BB."""
    channels = pixels_PC.shape[1]
    sums = np.zeros(count_sums(channels), dtype=np.int64)
    for start in range(0, len(pixels_PC), _CHUNK_PIXELS):
        words_CP = np.ascontiguousarray(pixels_PC[start : start + _CHUNK_PIXELS].T).astype(np.uint16)
        parts = [words_CP, *(words_CP[first] * words_CP[first:] for first in range(channels))]  # at most 255^2
        sums += np.concatenate([part.sum(axis=1, dtype=np.uint32) for part in parts])
    return sums


class Moments:
    """Mean and deviation of each channel and the channels' covariance, over the pixels that were added.

    Sums of products of bytes are whole numbers, so nothing is rounded before the last division.
    """

    def __init__(self, channels: int) -> None:
        self._channels, self._count = channels, 0
        self._sums = np.zeros(count_sums(channels), dtype=np.int64)

    def add(self, images_BHWC: NDArray[np.uint8]) -> None:
        """Add the pixels of some images."""
        pixels_PC = images_BHWC.reshape(-1, self._channels)
        self.add_sums(sum_colours(pixels_PC), len(pixels_PC))

    def add_sums(self, sums: NDArray[np.int64], num_pixels: int) -> None:
        """Add pixels by their sums; see `sum_colours`."""
        self._sums += sums
        self._count += num_pixels

    def summary(self) -> dict[str, Any]:
        """Return `mean` and `std` by channel in 0..255 units and `covariance` in squared units; 0 without pixels."""
        total, channels = max(1, self._count), self._channels
        products = np.zeros((channels, channels), dtype=np.int64)
        products[np.triu_indices(channels)] = self._sums[channels:]
        products = np.maximum(products, products.T)  # one of the two is 0
        mean = self._sums[:channels] / total
        covariance = products / total - np.outer(mean, mean)
        std = np.sqrt(np.maximum(np.diag(covariance), 0))
        return {"mean": mean.tolist(), "std": std.tolist(), "covariance": covariance.tolist()}


def hash_moments(summary: Mapping[str, Any]) -> str:
    """Return a sha256 that tells whether a summary is still the one that was written."""
    return hashlib.sha256(json.dumps([summary[name] for name in _NAMES]).encode()).hexdigest()
