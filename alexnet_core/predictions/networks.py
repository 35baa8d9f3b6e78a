"""Loads the network of a prediction over many images: for OpenVINO, or for torch where OpenVINO can't compute it.

Both compute in fp32, whatever is fastest: each attempt at a prediction gives an image the same probabilities.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from alexnet_core.errors import ExportUnsupported


class InputSize(Protocol):
    """The part of a network's input transform that tells its size."""

    @property
    def image_px(self) -> int:
        """Side of the input."""
        ...

    @property
    def channels(self) -> int:
        """Its colours."""
        ...


class Network(Protocol):
    """A network that is ready to compute. `preprocess` may be called in several threads."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits."""
        ...

    @property
    def transform(self) -> InputSize:
        """How images become its input."""
        ...

    def preprocess(self, image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the input_CHW of one decoded image."""
        ...

    def logits(self, batch_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute logits_BK."""
        ...


def load_network(folder: Path, threads: int) -> Network:
    """Verify a checkpoint and load its network.

    Raises:
        CheckpointCorrupt: a file is missing, damaged or unreadable.
        CheckpointIncompatible: another version of this program wrote it, or its weights don't fit its config.
    """
    try:
        from alexnet_core.inference.compiled_network import Compiler

        return Compiler(threads, "fp32").load(folder)
    except (ImportError, ExportUnsupported):
        return _TorchNetwork(folder, threads)


class _TorchNetwork:
    """A network that torch computes."""

    def __init__(self, folder: Path, threads: int) -> None:
        import torch

        from alexnet_core.evaluation.predictor import Predictor

        torch.set_num_threads(threads)
        self._predictor, self._from_numpy = Predictor.load(folder), torch.from_numpy
        self.class_names: tuple[str, ...] = self._predictor.class_names
        self.transform: InputSize = self._predictor.preprocessing

    def preprocess(self, image_HWC: NDArray[np.uint8]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = self._predictor.preprocess(image_HWC).numpy()
        return values

    def logits(self, batch_BCHW: NDArray[np.float32]) -> NDArray[np.float32]:
        logits_BK: NDArray[np.float32] = self._predictor.logits(self._from_numpy(batch_BCHW)).numpy()
        return logits_BK
