"""Out-of-sample probabilities: no image is judged by a classifier that knew it, and they are calibrated."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from alexnet_core.evaluation.confident_learning import NothingToCheck
from alexnet_core.evaluation.discriminant import FOLDS, SHRINKAGE, assign_folds, fit_sharpness, judge_out_of_sample

NUM = 600


def make_features(spread: float, seed: int = 0) -> tuple[torch.Tensor, NDArray[np.int64]]:
    """Three classes in eight dimensions, which overlap more the larger the spread."""
    generator = np.random.default_rng(seed)
    labels = np.arange(NUM, dtype=np.int64) % 3
    features = generator.normal(0, spread, (NUM, 8))
    features[np.arange(NUM), labels] += 2
    return torch.from_numpy(features.astype(np.float32)), labels


def test_the_folds_spread_every_class_evenly() -> None:
    labels = np.array([0] * 11 + [1] * 23 + [2] * 50, dtype=np.int64)
    folds = assign_folds(labels, seed=1)
    for label in range(3):
        counts = np.bincount(folds[labels == label], minlength=FOLDS)
        assert counts.max() - counts.min() <= 1
    assert (assign_folds(labels, seed=1) == folds).all()


def test_the_scores_are_those_of_scikit_learn_fitted_without_the_fold() -> None:
    features, labels = make_features(1.0)
    found = judge_out_of_sample(features, labels, 3)
    standard = (features.double().numpy() - features.double().numpy().mean(0)) / features.double().numpy().std(0)
    folds = assign_folds(labels, seed=0)
    expected = np.empty((NUM, 3))
    for fold in range(FOLDS):
        known = folds != fold
        model = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(standard[known], labels[known])
        expected[~known] = model.decision_function(standard[~known])
    assert (found.argmax(1) == expected.argmax(1)).mean() > 0.99
    logs = np.log(found[:, :2] / found[:, 2:])
    margins = expected[:, :2] - expected[:, 2:]
    slope = (logs * margins).sum() / (margins**2).sum()
    assert np.abs(logs - slope * margins).max() < 0.05 * np.abs(logs).max(), "they differ by the temperature alone"


def test_an_image_is_judged_without_its_own_label() -> None:
    """With that many features a classifier knows by heart the images that it was fitted on."""
    generator = np.random.default_rng(0)
    features = torch.from_numpy(generator.normal(0, 1, (300, 200)).astype(np.float32))
    labels = np.arange(300, dtype=np.int64) % 3
    known = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=SHRINKAGE).fit(features.numpy(), labels)
    assert known.score(features.numpy(), labels) > 0.8
    found = judge_out_of_sample(features, labels, 3)
    assert (found.argmax(1) == labels).mean() < 0.45


@pytest.mark.parametrize("spread", [0.8, 1.5, 3.0])
def test_the_probabilities_are_calibrated(spread: float) -> None:
    features, labels = make_features(spread)
    found = judge_out_of_sample(features, labels, 3)
    assert found.sum(1) == pytest.approx(1, abs=1e-5)
    right = (found.argmax(1) == labels).mean()
    assert found.max(1).mean() == pytest.approx(right, abs=0.08)


def test_wrong_labels_do_not_make_it_unsure_of_the_right_ones() -> None:
    features, labels = make_features(0.4)
    noisy = labels.copy()
    noisy[:30] = (noisy[:30] + 1) % 3
    found = judge_out_of_sample(features, noisy, 3)
    assert found[np.arange(NUM), labels][30:].mean() > 0.97
    assert found[np.arange(NUM), labels][:30].mean() > 0.9


def test_the_sharpness_of_scores_that_are_right_is_1() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.log_softmax(3 * torch.randn(4000, 5, generator=generator), dim=1)
    labels = torch.multinomial(scores.exp(), 1, generator=generator)[:, 0]
    assert fit_sharpness(scores, labels) > 0.8
    assert fit_sharpness(5 * scores, labels) == pytest.approx(0.2, rel=0.25)


def test_features_that_tell_nothing_are_refused() -> None:
    labels = np.arange(30, dtype=np.int64) % 3
    for features in (torch.ones(30, 4), torch.full((30, 4), torch.nan)):
        with pytest.raises(NothingToCheck, match="features are the same"):
            judge_out_of_sample(features, labels, 3)


def test_it_ends_when_the_caller_says_so() -> None:
    features, labels = make_features(1.0)
    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if calls == 5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        judge_out_of_sample(features, labels, 3, check=check)
