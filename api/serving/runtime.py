"""The only use of torch in the API: loads a checkpoint's folder as a model that the engine can use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from api.garbage import keep_what_is_there
from api.serving.batching import Model


class Runtime(Protocol):
    """Makes models from checkpoint folders."""

    def start(self) -> None:
        """Load once what takes long, in the loading thread."""
        ...

    def prepare_thread(self) -> None:
        """Set up the thread that computes."""
        ...

    def load(self, folder: Path) -> Model:
        """Return a verified model that is ready to predict.

        Raises:
            CheckpointError: the folder's files are not what they should be.
        """
        ...


class TorchRuntime:
    """Runs `alexnet_core.evaluation.predictor` on the CPU; imports torch at `start`, not before."""

    def __init__(self, threads: int | None) -> None:
        self._threads = threads or max(1, (os.cpu_count() or 2) // 2)

    def start(self) -> None:
        """See `Runtime`."""
        self.prepare_thread()
        import alexnet_core.evaluation.predictor  # noqa: F401 - so that the first load finds it loaded

        keep_what_is_there()

    def prepare_thread(self) -> None:
        """See `Runtime`. Torch keeps the number of threads separately for each calling thread."""
        import torch

        torch.set_num_threads(self._threads)

    def load(self, folder: Path) -> Model:
        """See `Runtime`."""
        return TorchModel(folder)


class TorchModel:
    """A loaded checkpoint, ready to predict."""

    def __init__(self, folder: Path) -> None:
        from alexnet_core.evaluation.predictor import Predictor

        self._predictor = Predictor.load(folder, device="cpu")
        self._predictor.warm((1,))

    @property
    def class_names(self) -> tuple[str, ...]:
        """See `Model`."""
        return tuple(self._predictor.class_names)

    def preprocess(self, image_HWC: Any) -> Any:
        """See `Model`."""
        return self._predictor.preprocess(np.require(image_HWC, requirements=["C", "W"]))  # torch wants it writable

    def compute(self, inputs: list[Any]) -> list[list[float]]:
        """See `Model`."""
        import torch

        filling = inputs[:1] * (round_batch_up(len(inputs)) - len(inputs))
        logits_BK = self._predictor.logits(torch.stack([*inputs, *filling]))[: len(inputs)]
        rows: list[list[float]] = torch.softmax(logits_BK.double(), dim=1).tolist()
        return rows


def round_batch_up(images: int) -> int:
    """The size that a batch of so many images is computed in: exact up to 8, then four steps to each doubling.

    oneDNN keeps compiled kernels for each size that it has seen, and what they keep in memory lies between the memory
    of the batches, which then can't be given back. Of 64 sizes 20 are left, and no batch computes a quarter more.
    """
    step: int = 1 << max(0, (images - 1).bit_length() - 3)
    return -(-images // step) * step
