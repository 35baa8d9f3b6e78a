"""What predictions get of a calibration."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_core.insight.serving_facts import ServingFacts, find_threshold, score_unfamiliarity


def test_the_probabilities_are_those_of_the_divided_logits() -> None:
    facts = ServingFacts(temperature=2.0, unfamiliarity_threshold=0.0)
    logits = np.random.default_rng(0).normal(0, 5, (20, 7))
    own, expected = (np.exp(values) / np.exp(values).sum(axis=1, keepdims=True) for values in (logits, logits / 2))
    assert facts.calibrate(own) == pytest.approx(expected)
    assert facts.calibrate(own[3].tolist()) == pytest.approx(expected[3])


def test_a_probability_of_0_stays_0() -> None:
    facts = ServingFacts(temperature=0.5, unfamiliarity_threshold=0.0)
    assert facts.calibrate([1.0, 0.0, 0.0]).tolist() == [1.0, 0.0, 0.0]


def test_answers_without_a_strong_class_are_less_familiar() -> None:
    scores = score_unfamiliarity(np.array([[9.0, 0.0, 0.0], [1.0, 1.0, 1.0], [1000.0, 0.0, 0.0]]))
    assert scores == pytest.approx([-np.log(np.exp(9) + 2), -np.log(3 * np.e), -1000])


def test_the_threshold_is_a_score_that_19_of_20_do_not_exceed() -> None:
    assert find_threshold(np.arange(1.0, 21.0)) in {19.0, 20.0}
    assert find_threshold(np.array([7.0])) == 7.0
