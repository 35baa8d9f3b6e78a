"""Random changes to a batch of training images, on the training device.

An image's draw depends on the job's seed, the epoch and the image's place in the pack: on neither the batch it is in
nor on what ran before.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from alexnet_core.config import TrainConfig

_STREAM = 2  # tells these draws from the sampler's of the same seed and epoch
_FLIP, _SHIFT_X, _SHIFT_Y, _ROTATE, _SCALE = range(5)


def draw_table(seed: int, epoch: int, num_images: int) -> npt.NDArray[np.float32]:
    """Draws of every image of a pack for one epoch: num_images x 5, uniform in [0, 1)."""
    return np.random.default_rng([seed, epoch, _STREAM]).random((num_images, 5), dtype=np.float32)


def augment(x_BCHW: Tensor, draws_B5: Tensor, config: TrainConfig) -> Tensor:
    """Flip, shift, turn and scale standardised images; uncovered places become 0."""
    if not (config.shift_px or config.rotate_deg or config.scale):
        if not config.flip:
            return x_BCHW
        return torch.where((draws_B5[:, _FLIP] < 0.5)[:, None, None, None], x_BCHW.flip(3), x_BCHW)
    signed_B5 = draws_B5 * 2 - 1
    angle_B = signed_B5[:, _ROTATE] * (config.rotate_deg * math.pi / 180)
    zoom_B = 1 + signed_B5[:, _SCALE] * config.scale
    mirror_B = torch.where(draws_B5[:, _FLIP] < 0.5, -1.0, 1.0) if config.flip else torch.ones_like(angle_B)
    shift_x_B = signed_B5[:, _SHIFT_X] * (2 * config.shift_px / x_BCHW.shape[3])
    shift_y_B = signed_B5[:, _SHIFT_Y] * (2 * config.shift_px / x_BCHW.shape[2])
    cos_B, sin_B = torch.cos(angle_B) * zoom_B, torch.sin(angle_B) * zoom_B
    row_x = torch.stack([cos_B * mirror_B, -sin_B, shift_x_B], dim=1)
    row_y = torch.stack([sin_B * mirror_B, cos_B, shift_y_B], dim=1)
    grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
