"""What a checkpoint's calibration gives every prediction: corrected probabilities, and how unfamiliar an image is.

Torch-free and cheap: some additions and exponentials for each image.

N images, K classes
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from alexnet_core.reliability import Calibration

FAMILIAR_SHARE = 0.95  #: of the held-out images are below the threshold


class ServingFacts(BaseModel):
    """What is kept with a checkpoint for its predictions."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    temperature: float  #: logits are divided by it
    unfamiliarity_threshold: float  #: images above it are likely of a kind that the network was not trained on

    @classmethod
    def of(cls, calibration: Calibration) -> Self:
        """Return the part of a calibration that predictions need."""
        return cls(temperature=calibration.temperature, unfamiliarity_threshold=calibration.unfamiliarity_threshold)

    def calibrate(self, probabilities: NDArray[np.floating[Any]] | Sequence[float]) -> NDArray[np.float64]:
        """Return calibrated probabilities of an image, or of each row, in the order of the classes.

        They are those that the logits have after they were divided by the temperature: probabilities differ from
        exponentials of the logits by a factor alone.
        """
        with np.errstate(divide="ignore"):
            logs = np.log(np.asarray(probabilities, np.float64)) / self.temperature
        weights = np.exp(logs - logs.max(axis=-1, keepdims=True))
        calibrated: NDArray[np.float64] = weights / weights.sum(axis=-1, keepdims=True)
        return calibrated


def score_unfamiliarity(logits_NK: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return how unfamiliar each image is: the higher, the less it is like what the network was trained on.

    It is the negative logarithm of the summed exponentials of the logits (the free energy; Liu et al., Energy-based
    Out-of-distribution Detection, NeurIPS 2020).
    """
    logits = np.asarray(logits_NK, np.float64)
    highest_N1 = logits.max(axis=1, keepdims=True)
    scores: NDArray[np.float64] = -(highest_N1[:, 0] + np.log(np.exp(logits - highest_N1).sum(axis=1)))
    return scores


def find_threshold(scores_N: NDArray[np.float64]) -> float:
    """Return the score that 95 % of held-out images do not exceed."""
    return float(np.quantile(scores_N, FAMILIAR_SHARE, method="higher"))
