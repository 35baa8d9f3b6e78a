"""What a table of true and predicted classes says of each class, and of the pairs that are confused. Torch-free.

K classes
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from alexnet_core.evaluation.job_evaluation import ClassResult, ConfusedPair

MAX_PAIRS = 100


def rate_classes(class_names: Sequence[str], counts_KK: NDArray[np.int64]) -> list[ClassResult]:
    """Rate how well each class is recognised, by images of true (row) and predicted (column) class."""
    hits, support, predicted = counts_KK.diagonal(), counts_KK.sum(axis=1), counts_KK.sum(axis=0)
    return [
        _rate(name, int(hits[index]), int(support[index]), int(predicted[index]))
        for index, name in enumerate(class_names)
    ]


def list_confused(class_names: Sequence[str], counts_KK: NDArray[np.int64]) -> list[ConfusedPair]:
    """List the pairs of classes that were confused most often, at most 100."""
    counts = counts_KK.copy()
    np.fill_diagonal(counts, 0)
    order = np.argsort(-counts, axis=None, kind="stable")[:MAX_PAIRS]
    rows, columns = np.unravel_index(order, counts.shape)
    return [
        ConfusedPair(true=class_names[row], predicted=class_names[column], count=int(counts[row, column]))
        for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        if counts[row, column]
    ]


def _rate(label: str, hits: int, support: int, predicted: int) -> ClassResult:
    return ClassResult(
        label=label,
        count=support,
        predicted=predicted,
        precision=hits / predicted if predicted else None,
        recall=hits / support if support else None,
        f1=2 * hits / (support + predicted) if support + predicted else None,
    )
