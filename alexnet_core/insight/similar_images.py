"""Finds the training images that a network takes for the most alike, as in Figure 4 of Krizhevsky 2012. Torch-free.

Two images are alike if the units of the last hidden layer are close by Euclidean distance. An index holds these units
of each training image in a file that is mapped into memory. The search is exact: it compares with all of them. How long
that takes, beside Faiss, is in docs/decisions/0020.

features.npy    float32 (N, D)
norms.npy       float64 (N,): squared length of each row
positions.npy   int64 (N,): where each image is in its dataset

N images, D units
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FEATURES, NORMS, POSITIONS = "features.npy", "norms.npy", "positions.npy"
MAX_INDEXED = 100_000  #: images; of more, as many are chosen at random
_SPARE = 4  # times as many as asked for are compared again, exactly
_BLOCK = 1 << 24  # values of a block that is read at a time


@dataclass(frozen=True)
class Neighbour:
    """A training image."""

    position: int  #: in the dataset
    distance: float  #: Euclidean, in the last hidden layer


class SimilarityIndex:
    """An index that was made."""

    def __init__(self, folder: Path) -> None:
        """Open it.

        Raises:
            OSError, ValueError: there is none, or not a whole one.
        """
        self._features_ND: NDArray[np.float32] = np.load(folder / FEATURES, mmap_mode="r")
        self._norms_N: NDArray[np.float64] = np.load(folder / NORMS)
        self._positions_N: NDArray[np.int64] = np.load(folder / POSITIONS)
        if not len(self._features_ND) == len(self._norms_N) == len(self._positions_N):
            raise ValueError(f"the index at {folder} is not whole")

    def __len__(self) -> int:
        return len(self._positions_N)

    def search(self, units_D: NDArray[np.float32], k: int) -> list[Neighbour]:
        """Return the `k` nearest images (all, if there are fewer), the nearest first; of equal ones the first."""
        squares_N = self._norms_N - 2 * self._multiply(units_D)
        num = min(len(self), max(_SPARE * k, k + 16))
        rows = np.argpartition(squares_N, num - 1)[:num] if num < len(self) else np.arange(len(self))
        rows.sort()
        differences = self._features_ND[rows].astype(np.float64) - units_D.astype(np.float64)
        distances = np.sqrt((differences**2).sum(axis=1))  # the squares above lose digits where two images are alike
        order = np.argsort(distances, kind="stable")[:k]
        return [Neighbour(int(self._positions_N[rows[i]]), float(distances[i])) for i in order]

    def _multiply(self, units_D: NDArray[np.float32]) -> NDArray[np.float64]:
        products_N = np.empty(len(self), np.float64)
        step = max(1, _BLOCK // max(1, self._features_ND.shape[1]))
        for start in range(0, len(self), step):
            products_N[start : start + step] = self._features_ND[start : start + step] @ units_D
        return products_N


def choose_indexed(training: NDArray[np.int64], most: int = MAX_INDEXED) -> NDArray[np.int64]:
    """Return the images that are indexed, in their order: all, or as many as fit, chosen at random, always the same."""
    if len(training) <= most:
        return training
    return np.sort(np.random.default_rng(0).permutation(training)[:most])


def write_index(folder: Path, features_ND: NDArray[np.float32], positions_N: NDArray[np.int64]) -> None:
    """Write an index into a folder.

    Args:
        folder: an existing one. If `features.npy` is not in it yet, it is written too.
        features_ND: units of the last hidden layer.
        positions_N: of their images.
    """
    step = max(1, _BLOCK // max(1, features_ND.shape[1]))
    blocks = [features_ND[start : start + step] for start in range(0, len(features_ND), step)]
    norms = [(block.astype(np.float64) ** 2).sum(axis=1) for block in blocks]
    np.save(folder / NORMS, np.concatenate(norms) if norms else np.empty(0))
    np.save(folder / POSITIONS, positions_N)
    if not (folder / FEATURES).exists():
        np.save(folder / FEATURES, features_ND)
