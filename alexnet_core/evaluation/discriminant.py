"""Out-of-sample class probabilities from features: linear discriminant analysis in folds.

Every image is judged by a classifier that was fitted without it. The classifier has a closed form, so that all folds
together cost about as much as two passes over the features, and can be stopped between blocks. A discriminant is too
sure of itself: its scores are divided by a temperature (Guo et al., ICML 2017). The temperature is fitted together with
the share of labels that are wrong at random. Otherwise wrong labels would make it unsure of the right ones too.

N images, D features, K classes
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alexnet_core.evaluation.confident_learning import NothingToCheck

FOLDS = 5
SHRINKAGE = 0.1  # towards a covariance without correlations
_BLOCK = 4096  # images at a time, and between two looks whether to stop
_MOST_FITTED = 10_000  # images that the temperature is fitted on
_WRONG_SHARES = (0.0, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)  # of labels, that are tried
_CONSTANT = 1e-6  # of a feature that tells nothing: its standard deviation is lower


def judge_out_of_sample(
    features_ND: Tensor,
    labels_N: NDArray[np.int64],
    num_classes: int,
    *,
    seed: int = 0,
    check: Callable[[], None] = lambda: None,
) -> NDArray[np.float32]:
    """Return probabilities_NK, each of a classifier that was fitted on the other folds.

    Args:
        features_ND: float32 on the CPU.
        labels_N: 0 to K - 1; every class has at least `FOLDS` images.
        num_classes: K.
        seed: of the folds.
        check: called between blocks of images; what it raises ends the work.

    Raises:
        NothingToCheck: the features tell nothing: they are the same for all images, or not finite.
    """
    check()
    scale = _Scale(features_ND)
    if not scale.width or not scale.is_finite:
        raise NothingToCheck("the network's features are the same for all images, or not finite")
    labels = torch.from_numpy(labels_N)
    folds_N = torch.from_numpy(assign_folds(labels_N, seed))
    moments = [_Moments.of(features_ND, labels, num_classes, folds_N == fold, scale, check) for fold in range(FOLDS)]
    scores_NK = torch.empty(len(labels_N), num_classes)
    for fold in range(FOLDS):
        others = _Moments.total([part for number, part in enumerate(moments) if number != fold])
        weights_DK, biases_K = others.fit()
        for rows in _blocks(folds_N == fold):
            check()
            scores_NK[rows] = (scale(features_ND[rows]) @ weights_DK + biases_K).log_softmax(dim=1).float()
    sharpness = fit_sharpness(scores_NK, labels, check)
    for start in range(0, len(scores_NK), _BLOCK):
        check()
        block_NK = scores_NK[start : start + _BLOCK]
        block_NK.copy_((block_NK * sharpness).softmax(dim=1))
    return scores_NK.numpy()


def fit_sharpness(scores_NK: Tensor, labels_N: Tensor, check: Callable[[], None] = lambda: None) -> float:
    """Return the factor (one over a temperature) by which scores best explain labels, some of which are wrong.

    A label is taken to be drawn from the scores' probabilities, or, in a share of the images that is fitted too, from
    all classes alike. Of the images, 10,000 are looked at.
    """
    step = -(-len(labels_N) // _MOST_FITTED)
    scores_NK, labels_N = scores_NK[::step], labels_N[::step]
    best = (float("inf"), 1.0)
    for sharpness in np.geomspace(0.02, 1, 25).tolist():
        check()
        own_N = (scores_NK * sharpness).softmax(dim=1).gather(1, labels_N[:, None])[:, 0].double()
        for share in _WRONG_SHARES:
            loss = -float(((1 - share) * own_N + share / scores_NK.shape[1]).clamp_min(1e-30).log().mean())
            best = min(best, (loss, sharpness))
    return best[1]


def assign_folds(labels_N: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Return each image's fold; every class is spread evenly over all folds."""
    generator = np.random.default_rng(seed)
    folds_N = np.empty(len(labels_N), dtype=np.int64)
    order = generator.permutation(len(labels_N))
    order = order[np.argsort(labels_N[order], kind="stable")]
    folds_N[order] = np.arange(len(order)) % FOLDS
    return folds_N


class _Moments:
    """The sums from which a discriminant is fitted, in float64; sums of disjoint images can be added up."""

    def __init__(self, counts_K: Tensor, sums_KD: Tensor, squares_DD: Tensor) -> None:
        self.counts_K, self.sums_KD, self.squares_DD = counts_K, sums_KD, squares_DD

    @classmethod
    def of(
        cls,
        features_ND: Tensor,
        labels_N: Tensor,
        num_classes: int,
        chosen_N: Tensor,
        scale: _Scale,
        check: Callable[[], None],
    ) -> _Moments:
        width = scale.width
        sums_KD = torch.zeros(num_classes, width, dtype=torch.float64)
        squares_DD = torch.zeros(width, width, dtype=torch.float64)
        for rows in _blocks(chosen_N):
            check()
            block = scale(features_ND[rows])
            sums_KD.index_add_(0, labels_N[rows], block)
            squares_DD += block.T @ block
        return cls(torch.bincount(labels_N[chosen_N], minlength=num_classes).double(), sums_KD, squares_DD)

    @classmethod
    def total(cls, parts: list[_Moments]) -> _Moments:
        return cls(
            torch.stack([part.counts_K for part in parts]).sum(0),
            torch.stack([part.sums_KD for part in parts]).sum(0),
            torch.stack([part.squares_DD for part in parts]).sum(0),
        )

    def fit(self) -> tuple[Tensor, Tensor]:
        """Return weights_DK and biases_K of the discriminant: Gaussians with one covariance, shrunk."""
        count, width = self.counts_K.sum(), len(self.squares_DD)
        means_KD = self.sums_KD / self.counts_K[:, None]
        within_DD = (self.squares_DD - means_KD.T @ (means_KD * self.counts_K[:, None])) / count
        even = within_DD.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny)
        within_DD = (1 - SHRINKAGE) * within_DD + SHRINKAGE * even * torch.eye(width, dtype=torch.float64)
        weights_DK = torch.linalg.solve(within_DD, means_KD.T)
        biases_K = (self.counts_K / count).log() - (means_KD * weights_DK.T).sum(dim=1) / 2
        return weights_DK, biases_K


class _Scale:
    """Gives blocks of features mean 0 and deviation 1, without those features that are the same for all images."""

    def __init__(self, features_ND: Tensor) -> None:
        deviations_D, means_D = torch.std_mean(features_ND, dim=0, correction=0)
        self.is_finite = bool(torch.isfinite(deviations_D).all())
        self._telling_D = deviations_D > _CONSTANT
        self._means_D = means_D[self._telling_D].double()
        self._deviations_D = deviations_D[self._telling_D].double()
        self.width = len(self._means_D)

    def __call__(self, block_ND: Tensor) -> Tensor:
        return (block_ND[:, self._telling_D].double() - self._means_D) / self._deviations_D


def _blocks(chosen_N: Tensor) -> Iterator[Tensor]:
    rows = torch.nonzero(chosen_N)[:, 0]
    for start in range(0, len(rows), _BLOCK):
        yield rows[start : start + _BLOCK]
