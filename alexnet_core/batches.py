"""Which images a step sees, in an order that follows from seed and epoch alone.

B batch, C channels, H height, W width, D draws
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from alexnet_core.augment import draw_table
from alexnet_core.config import TrainConfig
from alexnet_core.pack import TEST, TRAIN, Pack

_SAMPLER_STREAM = 1


class Batches:
    """The training images of a pack, cut into the batches of every epoch."""

    def __init__(self, config: TrainConfig, pack: Pack, seed: int, device: torch.device) -> None:
        self._config, self._pack, self._seed, self._device = config, pack, seed, device
        split = np.asarray(pack.split)
        self._indices = np.flatnonzero(split != TEST if config.validate_on == "test" else split == TRAIN)
        self.steps_per_epoch = _count_steps(config, len(self._indices))
        self._epoch = -1

    def load(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """The batch of a step, on the device.

        Args:
            step: counted from 0 over the whole run.

        Returns:
            images_BHWC uint8, labels_B int64, draws_BD for the augmentation.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        size = self._config.batch_size
        chosen = self._order[position * size : (position + 1) * size]
        return (
            self._send(self._pack.images[chosen]),
            self._send(np.asarray(self._pack.labels[chosen], dtype=np.int64)),
            self._send(self._draws[chosen]),
        )

    def _shuffle(self, epoch: int) -> None:
        generator = np.random.default_rng([self._seed, epoch, _SAMPLER_STREAM])
        self._order = self._indices[generator.permutation(len(self._indices))]
        self._draws = draw_table(self._seed, epoch, len(self._pack.split), self._config)
        self._epoch = epoch

    def _send(self, array: npt.NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type != "cpu":  # from page-locked memory the copy runs beside the computation
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)


def _count_steps(config: TrainConfig, num_images: int) -> int:
    """Steps of an epoch; a last batch of one image is left out where a batch norm could not use it."""
    full, rest = divmod(num_images, config.batch_size)
    return full + (1 if rest > (1 if config.norm == "batch" and full else 0) else 0)
