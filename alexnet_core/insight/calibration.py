"""Measures how far probabilities can be trusted, and corrects them by a temperature. Torch-free.

A network is calibrated if, of all answers that it gives with 80 %, 80 % are right. Guo et al., On Calibration of Modern
Neural Networks, ICML 2017: sections 2 (reliability diagram, expected calibration error) and 4.2 (temperature).

N images, K classes
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from alexnet_core.insight.serving_facts import find_threshold, score_unfamiliarity
from alexnet_core.reliability import Calibration, Reliability, ReliabilityBin

CALIBRATION = "calibration.json"  #: the file that a pass writes
BINS = 15  #: as in the paper
MIN_IMAGES = 20  #: fewer say nothing about probabilities
MAX_IMAGES = 20_000  #: of more, as many are chosen at random
MAX_VALUES = 20_000_000  #: logits that are looked at: with more classes, of fewer images
_LOWEST, _HIGHEST = 0.05, 20.0  # temperature
_HALVINGS = 40
_BLOCK = 1 << 21  # values at a time


class NotCalibrated(ValueError):
    """The probabilities can't be judged; the message says why."""


def count_looked_at(num_classes: int) -> int:
    """Return the most images that a calibration looks at."""
    return max(1, min(MAX_IMAGES, MAX_VALUES // num_classes))


def choose_held_out(validate_on: str, num_validation: int) -> Literal["validation", "test"]:
    """Return the split whose images a network was not trained on.

    Args:
        validate_on: the split that chose its epoch, or `none`: without `validation`, those images are trained on, too.
        num_validation: images of that split.
    """
    return "validation" if validate_on == "validation" and num_validation else "test"


def calibrate(
    logits_NK: NDArray[np.floating[Any]], labels_N: NDArray[np.int64], split: Literal["validation", "test"]
) -> Calibration:
    """Fit and measure on images that the network was not trained on.

    Raises:
        NotCalibrated: there are too few images, or a logit is not finite.
    """
    if len(labels_N) < MIN_IMAGES:
        raise NotCalibrated(f"{len(labels_N)} images are too few to judge probabilities by: {MIN_IMAGES} are needed")
    if not np.isfinite(logits_NK).all():
        raise NotCalibrated("the network's answers are not finite")
    temperature = fit_temperature(logits_NK, labels_N)
    return Calibration(
        split=split,
        num_images=len(labels_N),
        temperature=temperature,
        before=measure_reliability(logits_NK, labels_N),
        after=measure_reliability(logits_NK, labels_N, temperature),
        unfamiliarity_threshold=find_threshold(score_unfamiliarity(logits_NK)),
    )


def fit_temperature(logits_NK: NDArray[np.floating[Any]], labels_N: NDArray[np.int64]) -> float:
    """Return the temperature that gives the labels the highest likelihood; within 0.05 to 20.

    As in Platt (1999) a label is not taken for certain: with N images it has the probability (N + 1) / (N + 2).
    Otherwise a network that is right on all of few images would become certain of everything.
    """
    num = len(labels_N)
    target = _mean_of_targets(logits_NK, labels_N, sure=(num + 1) / (num + 2))
    low, high = 1 / _HIGHEST, 1 / _LOWEST  # of one over the temperature; the likelihood is concave in it
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        if _mean_expected(logits_NK, middle) < target:
            low = middle
        else:
            high = middle
    return 1 / float(np.sqrt(low * high))


def measure_reliability(
    logits_NK: NDArray[np.floating[Any]], labels_N: NDArray[np.int64], temperature: float = 1.0
) -> Reliability:
    """Compare the most probable classes' probabilities with how often they are right."""
    confidence_N, right_N, loss = np.empty(len(labels_N)), np.empty(len(labels_N), bool), 0.0
    for rows in _blocks(logits_NK):
        scaled = logits_NK[rows].astype(np.float64) / temperature
        scaled -= scaled.max(axis=1, keepdims=True)
        total = np.exp(scaled).sum(axis=1)
        best = scaled.argmax(axis=1)
        confidence_N[rows], right_N[rows] = 1 / total, best == labels_N[rows]
        loss += float((np.log(total) - scaled[np.arange(len(best)), labels_N[rows]]).sum())
    bins_N = np.clip(np.ceil(confidence_N * BINS).astype(np.int64) - 1, 0, BINS - 1)
    counts = np.bincount(bins_N, minlength=BINS)
    confidences = np.bincount(bins_N, weights=confidence_N, minlength=BINS)
    rights = np.bincount(bins_N, weights=right_N, minlength=BINS)
    return Reliability(
        ece=float(np.abs(confidences - rights).sum() / len(labels_N)),
        nll=loss / len(labels_N),
        accuracy=float(right_N.mean()),
        confidence=float(confidence_N.mean()),
        bins=[_bin(number, counts, confidences, rights) for number in range(BINS)],
    )


def _bin(number: int, counts: NDArray[Any], confidences: NDArray[Any], rights: NDArray[Any]) -> ReliabilityBin:
    count = int(counts[number])
    return ReliabilityBin(
        low=number / BINS,
        high=(number + 1) / BINS,
        count=count,
        confidence=float(confidences[number] / count) if count else None,
        accuracy=float(rights[number] / count) if count else None,
    )


def _mean_of_targets(logits_NK: NDArray[np.floating[Any]], labels_N: NDArray[np.int64], sure: float) -> float:
    """Return the mean logit under the targets: `sure` for the label, the rest for all other classes alike."""
    num, classes = logits_NK.shape
    own = float(logits_NK[np.arange(num), labels_N].mean(dtype=np.float64))
    everything = float(logits_NK.sum(axis=1, dtype=np.float64).mean())
    return float(sure * own + (1 - sure) * (everything - own) / max(1, classes - 1))


def _mean_expected(logits_NK: NDArray[np.floating[Any]], sharpness: float) -> float:
    """Return the mean logit under the network's own probabilities."""
    total = 0.0
    for rows in _blocks(logits_NK):
        block = logits_NK[rows].astype(np.float64)
        scaled = block * sharpness
        weights = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        total += float(((weights * block).sum(axis=1) / weights.sum(axis=1)).sum())
    return total / len(logits_NK)


def _blocks(logits_NK: NDArray[np.floating[Any]]) -> list[slice]:
    rows = max(1, _BLOCK // logits_NK.shape[1])
    return [slice(start, start + rows) for start in range(0, len(logits_NK), rows)]
