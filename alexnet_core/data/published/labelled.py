"""Labelled images in memory, with the split of their publisher. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelledImages:
    """Square images of one size with their labels; the test images come last."""

    images: NDArray[np.uint8]  #: NHWC
    labels: NDArray[np.int64]  #: N
    num_test: int  #: the last ones are the test images

    @property
    def num_train(self) -> int:
        """The number of images to train and validate on, which come first."""
        return len(self.labels) - self.num_test
