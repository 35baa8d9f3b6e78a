"""Several networks that predict together: the mean of their probabilities, as with the paper's five nets.

B batch, K classes
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from alexnet_core.errors import CheckpointIncompatible
from alexnet_core.evaluation.evaluate import average
from alexnet_core.evaluation.predictor import Prediction, Predictor


class Ensemble:
    """Networks with the same classes; each keeps its own input transform."""

    def __init__(self, members: Sequence[Predictor]) -> None:
        """Combine the networks.

        Args:
            members: at least one.

        Raises:
            CheckpointIncompatible: they tell different classes apart.
        """
        self.members = list(members)
        self.class_names = self.members[0].class_names
        if any(member.class_names != self.class_names for member in self.members):
            raise CheckpointIncompatible("the checkpoints have different classes, so they can't predict together")

    @classmethod
    def load(cls, checkpoints: Sequence[Path], *, device: str = "cpu") -> Ensemble:
        """Verify and load checkpoints.

        Raises:
            CheckpointCorrupt: a file is missing or damaged.
            CheckpointIncompatible: a network's weights don't fit its config, or their classes differ.
        """
        return cls([Predictor.load(path, device=device) for path in checkpoints])

    @torch.inference_mode()
    def predict(self, images: Sequence[npt.NDArray[np.uint8]], top_k: int = 5) -> list[list[Prediction]]:
        """Return the most probable classes of each decoded image, best first; top_k above K gives all K."""
        if not images or len(self.members) == 1:
            return self.members[0].predict(images, top_k)
        scores = [
            torch.log_softmax(member.logits(torch.stack([member.preprocess(image) for image in images])), dim=1)
            for member in self.members
        ]
        return self.members[0].rank(average(scores), top_k)
