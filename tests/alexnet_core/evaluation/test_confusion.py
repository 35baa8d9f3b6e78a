"""What a table of true and predicted classes says."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_core.evaluation.confusion import list_confused, rate_classes

COUNTS = np.array([[8, 2, 0], [1, 4, 0], [0, 0, 0]], np.int64)


def test_each_class_has_its_precision_and_recall() -> None:
    cats, dogs, cows = rate_classes(("cat", "dog", "cow"), COUNTS)
    assert (cats.label, cats.count, cats.predicted) == ("cat", 10, 9)
    assert cats.precision == pytest.approx(8 / 9)
    assert cats.recall == 0.8
    assert cats.f1 == pytest.approx(2 * 8 / 19)
    assert dogs.recall == 0.8
    assert (cows.precision, cows.recall, cows.f1) == (None, None, None)


def test_the_pairs_that_are_confused_most_come_first() -> None:
    pairs = [(one.true, one.predicted, one.count) for one in list_confused(("cat", "dog", "cow"), COUNTS)]
    assert pairs == [("cat", "dog", 2), ("dog", "cat", 1)]
    assert COUNTS[0, 0] == 8, "what was given stays as it is"
    assert len(list_confused([str(i) for i in range(20)], np.ones((20, 20), np.int64))) == 100
