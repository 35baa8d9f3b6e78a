"""Finds labels that are likely wrong by confident learning: the rule alone, on probabilities of any origin. Torch-free.

Northcutt, Jiang, Chuang: Confident Learning: Estimating Uncertainty in Dataset Labels, JAIR 70 (2021), section 3. An
image counts for a class if that class's probability reaches the class's threshold, the mean probability that images
with this label get for it. If it reaches several, the most probable one counts. An image that counts for another class
than its label is one of the off-diagonal entries of the confident joint, and its label is likely wrong.

N images, K classes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROUNDING = 1e-6  # of a mean of equal probabilities, which must reach itself


class NothingToCheck(ValueError):
    """The labels can't be checked; the message says why."""


@dataclass(frozen=True)
class Suspects:
    """Images whose label is likely wrong, the most certain first."""

    rows: NDArray[np.int64]  #: their places among the N images
    suggested: NDArray[np.int64]  #: the class that each counts for
    confidence: NDArray[np.float64]  #: the suggested class's probability minus the label's


def find_suspects(probabilities_NK: NDArray[np.floating], labels_N: NDArray[np.int64]) -> Suspects:
    """Find the images that confidently belong to another class than their label's.

    Args:
        probabilities_NK: out-of-sample: of a model that has not learned from the image that it judges.
        labels_N: the labels as they are given; every class has at least one.

    Returns:
        At most N, by falling confidence (the normalised margin); of equal ones the first stays first.
    """
    own_N = probabilities_NK[np.arange(len(labels_N)), labels_N].astype(np.float64)
    counts_K = np.bincount(labels_N, minlength=probabilities_NK.shape[1])
    thresholds_K = np.bincount(labels_N, weights=own_N, minlength=len(counts_K)) / np.maximum(1, counts_K)
    confident_NK = np.where(probabilities_NK >= thresholds_K - _ROUNDING, probabilities_NK, -1.0)
    suggested_N = confident_NK.argmax(axis=1)
    best_N = confident_NK.max(axis=1, initial=-1.0)
    margin_N = best_N - own_N
    rows = np.flatnonzero((best_N >= 0) & (suggested_N != labels_N) & (margin_N > 0))
    rows = rows[np.argsort(-margin_N[rows], kind="stable")]
    return Suspects(rows.astype(np.int64), suggested_N[rows].astype(np.int64), margin_N[rows])
