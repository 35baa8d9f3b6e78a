"""The rule of confident learning, on examples that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_core.evaluation.confident_learning import find_suspects


def test_an_image_that_reaches_another_classes_threshold_is_suspected() -> None:
    probabilities = np.array([[0.9, 0.1], [0.7, 0.3], [0.2, 0.8], [0.1, 0.9], [0.05, 0.95]])
    labels = np.array([0, 0, 1, 1, 0])
    # thresholds: class 0 (0.9 + 0.7 + 0.05) / 3 = 0.55, class 1 (0.8 + 0.9) / 2 = 0.85
    found = find_suspects(probabilities, labels)
    assert found.rows.tolist() == [4]
    assert found.suggested.tolist() == [1]
    assert found.confidence.tolist() == pytest.approx([0.9])


def test_one_that_is_more_probable_elsewhere_but_below_the_threshold_is_left_alone() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.05, 0.95], [0.05, 0.95]])
    found = find_suspects(probabilities, np.array([0, 0, 0, 1, 1]))
    assert found.rows.tolist() == []  # 0.6 is more than 0.4, but class 1 asks for 0.95


def test_of_several_classes_that_are_reached_the_most_probable_one_is_suggested() -> None:
    probabilities = np.array([[0.3, 0.3, 0.4], [0.3, 0.4, 0.3], [0.05, 0.45, 0.5], [0.9, 0.05, 0.05]])
    found = find_suspects(probabilities, np.array([2, 1, 0, 0]))
    assert (found.rows.tolist(), found.suggested.tolist()) == ([2], [2])


def test_the_most_certain_comes_first_and_equal_ones_in_their_order() -> None:
    right = [[1.0, 0.0]] * 8 + [[0.1, 0.9]] * 8
    wrong = [[0.1, 0.9], [0.0, 1.0], [0.1, 0.9]]
    labels = np.array([0] * 8 + [1] * 8 + [0] * 3)
    found = find_suspects(np.array(right + wrong), labels)
    assert found.rows.tolist() == [17, 16, 18]
    assert (np.diff(found.confidence) <= 0).all()


def test_random_flips_of_separable_classes_are_found_and_nothing_else() -> None:
    generator = np.random.default_rng(0)
    true = generator.integers(0, 5, 2000)
    probabilities = generator.dirichlet([0.2] * 5, 2000) * 0.2
    probabilities[np.arange(2000), true] += 0.8
    labels = true.copy()
    flipped = generator.choice(2000, 100, replace=False)
    labels[flipped] = (labels[flipped] + generator.integers(1, 5, 100)) % 5
    found = find_suspects(probabilities, labels)
    assert set(found.rows.tolist()) <= set(flipped.tolist())
    assert len(found.rows) >= 70
    assert (found.suggested == true[found.rows]).all()
