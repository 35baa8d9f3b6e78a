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
from alexnet_core.pack import Pack
from alexnet_core.preprocess import Preprocessing

_STREAM, _CROP_STREAM = 2, 5  # tell these draws from the others of the same seed and epoch
_FLIP, _SHIFT_X, _SHIFT_Y, _ROTATE, _SCALE, _CROP_Y, _CROP_X, _COLOUR = range(8)
_SMALLEST = 1e-7  # keeps a normal draw finite


def draw_table(seed: int, epoch: int, num_images: int, config: TrainConfig) -> npt.NDArray[np.float32]:
    """Draws of every image of a pack for one epoch: num_images x 5, x 10 with crops or colours; uniform in [0, 1)."""
    table = np.random.default_rng([seed, epoch, _STREAM]).random((num_images, 5), dtype=np.float32)
    if not (config.random_crop or config.colour_std):
        return table
    more = np.random.default_rng([seed, epoch, _CROP_STREAM]).random((num_images, 5), dtype=np.float32)
    return np.concatenate([table, more], axis=1)


class Augmentation:
    """From a batch's stored images to the network's input, with the changes that a config asks for."""

    def __init__(self, config: TrainConfig, preprocessing: Preprocessing, pack: Pack) -> None:
        self._config, self._preprocessing = config, preprocessing
        self._colours_33 = _principal_colours(pack) if config.colour_std else None

    def __call__(self, images_BHWC: Tensor, draws_BD: Tensor, epoch: int) -> Tensor:
        """Standardised, changed input_BCHW, float32.

        Args:
            images_BHWC: uint8, as stored.
            draws_BD: these images' rows of the epoch's table.
            epoch: counted from 0.
        """
        config, preprocessing = self._config, self._preprocessing
        x_BCHW = preprocessing.resize(images_BHWC)
        x_BCHW = _cut_at(x_BCHW, draws_BD, config.image_px) if config.random_crop else preprocessing.cut_centre(x_BCHW)
        x_BCHW = preprocessing.finish(x_BCHW)
        until = config.colour_until_epoch
        if self._colours_33 is not None and (until is None or epoch < until):
            x_BCHW = _add_colour(x_BCHW, draws_BD, self._colours_33.to(x_BCHW.device), config)
        return transform(preprocessing.standardise(x_BCHW), draws_BD, config)


def transform(x_BCHW: Tensor, draws_BD: Tensor, config: TrainConfig) -> Tensor:
    """Flip, shift, turn and scale standardised images; uncovered places become 0."""
    if not (config.shift_px or config.rotate_deg or config.scale):
        if not config.flip:
            return x_BCHW
        return torch.where((draws_BD[:, _FLIP] < 0.5)[:, None, None, None], x_BCHW.flip(3), x_BCHW)
    signed_BD = draws_BD * 2 - 1
    angle_B = signed_BD[:, _ROTATE] * (config.rotate_deg * math.pi / 180)
    zoom_B = 1 + signed_BD[:, _SCALE] * config.scale
    mirror_B = torch.where(draws_BD[:, _FLIP] < 0.5, -1.0, 1.0) if config.flip else torch.ones_like(angle_B)
    shift_x_B = signed_BD[:, _SHIFT_X] * (2 * config.shift_px / x_BCHW.shape[3])
    shift_y_B = signed_BD[:, _SHIFT_Y] * (2 * config.shift_px / x_BCHW.shape[2])
    cos_B, sin_B = torch.cos(angle_B) * zoom_B, torch.sin(angle_B) * zoom_B
    row_x = torch.stack([cos_B * mirror_B, -sin_B, shift_x_B], dim=1)
    row_y = torch.stack([sin_B * mirror_B, cos_B, shift_y_B], dim=1)
    grid = F.affine_grid(torch.stack([row_x, row_y], dim=1), list(x_BCHW.shape), align_corners=False)
    return F.grid_sample(x_BCHW, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def _cut_at(x_BCHW: Tensor, draws_BD: Tensor, side_px: int) -> Tensor:
    """Each image's own square of that side."""
    along = torch.arange(side_px, device=x_BCHW.device)
    places = [x_BCHW.shape[2] - side_px + 1, x_BCHW.shape[3] - side_px + 1]
    top_B, left_B = ((draws_BD[:, n] * count).long() for n, count in zip((_CROP_Y, _CROP_X), places, strict=True))
    image = torch.arange(len(x_BCHW), device=x_BCHW.device)[:, None, None]
    x_BHWC = x_BCHW.permute(0, 2, 3, 1)[
        image, (top_B[:, None] + along)[:, :, None], (left_B[:, None] + along)[:, None, :]
    ]
    return x_BHWC.permute(0, 3, 1, 2)


def _add_colour(x_BCHW: Tensor, draws_BD: Tensor, colours_33: Tensor, config: TrainConfig) -> Tensor:
    """Krizhevsky 2012, section 4.1: one amount of each principal colour for a whole image."""
    amounts_B3 = torch.special.ndtri(draws_BD[:, _COLOUR : _COLOUR + 3].clamp(_SMALLEST, 1 - _SMALLEST))
    shift_BC = (amounts_B3 * config.colour_std) @ colours_33
    x_BCHW = x_BCHW + shift_BC[:, :, None, None]
    return x_BCHW / (1 + config.colour_std) if config.colour_form == "2012_code" else x_BCHW


def _principal_colours(pack: Pack) -> Tensor:
    """Rows: the principal components of the training pixels' colours times their variance, in 0..255 units.

    The paper prints variance times component; that is of a sensible size only where a pixel's values are fractions, so
    the covariance is taken of values / 255 and the result scaled back.
    """
    covariance = np.asarray(pack.covariance)
    if covariance.shape == (1, 1):
        covariance = np.full((3, 3), covariance[0, 0])
    variances, components = np.linalg.eigh(covariance / 255**2)
    signs = np.sign(components[np.abs(components).argmax(axis=0), range(3)])
    return torch.from_numpy((components * signs * variances).T * 255).to(torch.float32)
