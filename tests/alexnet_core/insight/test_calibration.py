"""Reliability, its error, and the temperature, on logits whose calibration is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alexnet_core.insight.calibration import (
    BINS,
    NotCalibrated,
    calibrate,
    fit_temperature,
    measure_reliability,
)
from alexnet_core.insight.serving_facts import ServingFacts
from alexnet_core.reliability import Calibration


def draw(num: int = 8000, classes: int = 6, spread: float = 2.0) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Logits that are right: each label is drawn with their probabilities."""
    generator = np.random.default_rng(1)
    logits = spread * generator.normal(0, 1, (num, classes))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) < generator.random((num, 1))).sum(axis=1)
    return logits, labels.clip(max=classes - 1).astype(np.int64)


def softmax(logits: NDArray[Any]) -> NDArray[Any]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[Any] = powers / powers.sum(axis=1, keepdims=True)
    return probabilities


@pytest.mark.parametrize("factor", [0.4, 1.0, 3.0])
def test_the_temperature_undoes_what_was_done_to_right_logits(factor: float) -> None:
    logits, labels = draw()
    assert fit_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_it_is_the_temperature_of_the_least_cross_entropy() -> None:
    logits, labels = draw(num=500)
    found = fit_temperature(2.5 * logits, labels)

    def loss(temperature: float) -> float:
        return float(
            torch.nn.functional.cross_entropy(torch.from_numpy(2.5 * logits / temperature), torch.from_numpy(labels))
        )

    best = min(np.linspace(0.5, 6, 400), key=loss)
    assert found == pytest.approx(best, rel=0.03)


def test_the_error_of_right_logits_is_about_0_and_that_of_sure_ones_is_what_they_overstate() -> None:
    logits, labels = draw()
    assert measure_reliability(logits, labels).ece < 0.02
    sure = measure_reliability(5 * logits, labels)
    assert sure.ece == pytest.approx(sure.confidence - sure.accuracy, abs=0.01)
    assert sure.ece > 0.1
    assert measure_reliability(5 * logits, labels, 5.0).ece < 0.02


def test_the_error_and_the_bins_are_those_of_a_small_example() -> None:
    """Two answers with 0.9, one of them right, and two with 0.6, both right."""
    logits = np.log(np.array([[0.9, 0.1], [0.9, 0.1], [0.6, 0.4], [0.6, 0.4]]))
    found = measure_reliability(logits, np.array([0, 1, 0, 0]))
    assert found.ece == pytest.approx((2 * 0.4 + 2 * 0.4) / 4)
    assert found.accuracy == 0.75
    assert found.nll == pytest.approx(-np.log([0.9, 0.1, 0.6, 0.6]).mean())
    taken = [(round(BINS * one.high), one.count, one.accuracy) for one in found.bins if one.count]
    assert taken == [(9, 2, 1.0), (14, 2, 0.5)]
    assert [one.confidence for one in found.bins if one.count] == pytest.approx([0.6, 0.9])
    assert len(found.bins) == BINS


def test_the_classes_keep_their_order() -> None:
    logits, labels = draw(num=300)
    found = calibrate(4 * logits, labels, "validation")
    assert (ServingFacts.of(found).calibrate(softmax(4 * logits)).argmax(axis=1) == logits.argmax(axis=1)).all()
    assert found.before.accuracy == found.after.accuracy
    assert found.after.nll < found.before.nll


def test_a_network_that_is_right_on_all_of_few_images_does_not_become_certain() -> None:
    logits = np.tile([3.0, 0.0, 0.0], (30, 1))
    labels = np.zeros(30, np.int64)
    sure = ServingFacts.of(calibrate(logits, labels, "validation")).calibrate(softmax(logits))[0, 0]
    assert 0.95 < sure < 0.98, "31 of 32"


def test_a_few_validation_images_do_not_make_it_worse_on_others() -> None:
    """142 images of digits: with a smoothing by classes in place of two answers, the error on the test doubled."""
    logits, labels = draw(num=4142, classes=10, spread=6)
    few = fit_temperature(1.4 * logits[:142], labels[:142])
    assert measure_reliability(logits[142:] * 1.4, labels[142:], few).ece < 0.02


def test_95_percent_of_the_images_are_below_the_threshold() -> None:
    logits, labels = draw(num=1000)
    found = calibrate(logits, labels, "validation")
    scores = -np.log(np.exp(logits).sum(axis=1))
    assert (scores <= found.unfamiliarity_threshold).mean() == pytest.approx(0.95, abs=0.002)


def test_too_few_images_and_broken_answers_are_refused() -> None:
    logits, labels = draw(num=19)
    with pytest.raises(NotCalibrated, match="19 images are too few"):
        calibrate(logits, labels, "test")
    with pytest.raises(NotCalibrated, match="not finite"):
        calibrate(np.full((30, 2), np.nan), np.zeros(30, np.int64), "test")


def test_extreme_answers_stay_within_the_bounds() -> None:
    labels = np.zeros(40, np.int64)
    right, wrong = np.tile([1e4, 0.0], (40, 1)), np.tile([0.0, 1e4], (40, 1))
    for logits in (right, wrong):
        found = calibrate(logits, labels, "validation")
        assert 0.05 <= found.temperature <= 20.001
        assert np.isfinite(found.after.nll)


def test_it_survives_being_written_and_read() -> None:
    found = calibrate(*draw(num=100), "validation")
    assert Calibration.model_validate_json(found.model_dump_json()) == found
