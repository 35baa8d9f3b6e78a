"""Predicts with one checkpoint.

B batch, C channels, H height, W width, K classes
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from alexnet_core.data.squares import Pixels
from alexnet_core.errors import CheckpointIncompatible
from alexnet_core.inference.pixels import to_input
from alexnet_core.network.checkpoint import Checkpoint, load_checkpoint
from alexnet_core.network.model import AlexNet, build_model
from alexnet_core.network.preprocess import Preprocessing


@dataclass(frozen=True)
class Prediction:
    """One class and its probability."""

    label: str
    index: int
    probability: float


class Predictor:
    """A loaded network with the input transform and class names that it was trained with."""

    def __init__(
        self,
        model: AlexNet,
        preprocessing: Preprocessing,
        class_names: Sequence[str],
        metadata: dict[str, Any],
        device: str = "cpu",
    ) -> None:
        self.device = torch.device(device)
        self.preprocessing = preprocessing
        self.class_names = tuple(class_names)
        self.metadata = metadata
        self.model = model.to(self.device).eval()

    @classmethod
    def load(cls, checkpoint_dir: Path | str, *, device: str = "cpu") -> Predictor:
        """Verify and load a checkpoint.

        Raises:
            CheckpointCorrupt: a file is missing or damaged.
            CheckpointIncompatible: its weights don't fit its config.
        """
        return cls.of(load_checkpoint(Path(checkpoint_dir)), device=device)

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, device: str = "cpu") -> Predictor:
        """Build the network of a loaded checkpoint.

        Raises:
            CheckpointIncompatible: its weights don't fit its config.
        """
        model = build_model(checkpoint.config, len(checkpoint.class_names), checkpoint.preprocessing.channels)
        try:
            model.load_state_dict(checkpoint.weights)
        except RuntimeError as exc:
            raise CheckpointIncompatible(f"the weights of {checkpoint.path} don't fit its config: {exc}") from exc
        return cls(model, checkpoint.preprocessing, checkpoint.class_names, checkpoint.metadata, device)

    def preprocess(self, image: Pixels) -> Tensor:
        """Return the input tensor CHW, float32, of one decoded image with 1 or 3 channels."""
        return torch.from_numpy(to_input(self.preprocessing, image))

    @torch.inference_mode()
    def logits(self, batch_BCHW: Tensor) -> Tensor:
        """Compute logits_BK in fp32, and return them on the CPU."""
        x_BCHW = batch_BCHW.to(self.device).contiguous(memory_format=torch.channels_last)
        logits_BK: Tensor = self.model(x_BCHW)
        return logits_BK.float().cpu()

    def predict(self, images: Sequence[npt.NDArray[np.uint8]], top_k: int = 5) -> list[list[Prediction]]:
        """Return the most probable classes of each decoded image, best first; top_k above K gives all K."""
        if not images:
            return []
        return self.rank(self.logits(torch.stack([self.preprocess(image) for image in images])), top_k)

    def rank(self, logits_BK: Tensor, top_k: int = 5) -> list[list[Prediction]]:
        """Return the most probable classes of each row, best first."""
        values, indices = torch.softmax(logits_BK, dim=1).topk(min(top_k, logits_BK.shape[1]), dim=1)
        return [
            [Prediction(self.class_names[i], i, p) for p, i in zip(row_p, row_i, strict=True)]
            for row_p, row_i in zip(values.tolist(), indices.tolist(), strict=True)
        ]

    def warm(self, batch_sizes: Iterable[int]) -> None:
        """Run batches of these sizes once, so that no caller waits for work that torch does at first use."""
        side, channels = self.preprocessing.image_px, self.preprocessing.channels
        for size in batch_sizes:
            self.logits(torch.zeros(size, channels, side, side))
