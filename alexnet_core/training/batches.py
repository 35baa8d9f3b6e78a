"""Chooses which images each step sees. Their order depends only on seed and epoch.

B batch, C channels, H height, W width, D draws
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import TEST, TRAIN, Pack
from alexnet_core.training.augment import draw_table
from alexnet_core.training.plan import count_steps
from alexnet_core.training.streams import Stream, draw_in_epoch
from alexnet_core.training.world import World


class Batches:
    """The training images of a pack, divided into the batches of every epoch and each process's share of them."""

    def __init__(self, config: TrainConfig, pack: Pack, seed: int, world: World) -> None:
        self._config, self._pack, self._seed, self._world = config, pack, seed, world
        self._device = torch.device(world.device)
        split = np.asarray(pack.split)
        self._indices = np.flatnonzero(split == TRAIN if config.validate_on == "validation" else split != TEST)
        self.steps_per_epoch = count_steps(config, len(self._indices), world.shares)
        self._epoch = -1

    def load(self, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Load this process's share of a step's batch onto the device.

        Args:
            step: counted from 0 over the whole run.

        Returns:
            images_BHWC uint8, labels_B int64, draws_BD for the augmentation.
        """
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._shuffle(epoch)
        start, count = position * self._config.batch_size, self.count(step)
        chosen = self._order[start : start + count][self._world.share_of(count).rows]
        return (
            self._send(self._pack.images[chosen]),
            self._send(np.asarray(self._pack.labels[chosen], dtype=np.int64)),
            self._send(self._draws[chosen]),
        )

    def count(self, step: int) -> int:
        """Count the images of a step's whole batch."""
        start = step % self.steps_per_epoch * self._config.batch_size
        return min(self._config.batch_size, len(self._indices) - start)

    def _shuffle(self, epoch: int) -> None:
        generator = draw_in_epoch(self._seed, Stream.ORDER, epoch)
        self._order = self._indices[generator.permutation(len(self._indices))]
        self._draws = draw_table(self._seed, epoch, len(self._pack.split), self._config)
        self._epoch = epoch

    def _send(self, array: npt.NDArray[np.generic]) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self._device.type != "cpu":  # from page-locked memory the copy runs beside the computation
            tensor = tensor.pin_memory()
        return tensor.to(self._device, non_blocking=True)
