"""Turns stored or decoded pixels into the network's input, with the same code for training and prediction.

B batch, C channels, H height, W width, V views
"""

from __future__ import annotations

import base64
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import TRAIN, Pack
from alexnet_core.network.input_transform import LUMA, InputTransform

_AVERAGED_AT_ONCE = 256  # images
_PIXELS_AT_ONCE = 1 << 20  # of a large image


class Preprocessing(InputTransform):
    """The input transform of a network, which is stored with the weights, with what torch computes of it."""

    @classmethod
    def of(cls, config: TrainConfig, pack: Pack) -> Preprocessing:
        """Build the transform of a run. What the config leaves open comes from the dataset."""
        channels = config.channels or pack.facts.channels
        std = config.std or _without_zeros(pack.std) if config.standardise == "mean_std" else (1.0,) * channels
        preprocessing = cls(
            image_px=config.image_px,
            resize_px=config.resize_px,
            channels=channels,
            mean=_match_channels(config.mean or pack.mean, channels),
            std=_match_channels(std, channels),
        )
        if config.standardise != "pixel_mean":
            return preprocessing
        values = preprocessing.average(pack).numpy().astype("<f4")
        mean_image = base64.b64encode(values.tobytes()).decode()
        return preprocessing.model_copy(update={"mean": (0.0,) * channels, "mean_image": mean_image})

    def average(self, pack: Pack) -> Tensor:
        """Return the mean of the resized training images, mean_CHW, in one pass that always has the same order."""
        side = self.resize_px or self.image_px
        total_CHW = torch.zeros(self.channels, side, side, dtype=torch.float64)
        indices = np.flatnonzero(np.asarray(pack.split) == TRAIN)
        for start in range(0, len(indices), _AVERAGED_AT_ONCE):
            images = torch.from_numpy(np.ascontiguousarray(pack.images[indices[start : start + _AVERAGED_AT_ONCE]]))
            total_CHW += self.finish(self.resize(images)).double().sum(dim=0)
        return (total_CHW / max(1, len(indices))).float()

    @cached_property
    def _mean_image(self) -> Tensor:
        return torch.from_numpy(self.mean_image_CHW)

    def to_input(self, images_BHWC: Tensor) -> Tensor:
        """Return standardised input_BCHW, float32 on the images' device.

        The square in the image's middle is resized to `resize_px` (bilinear, antialiased), then the centre is cut out.
        An image gives the same bits alone and in a batch.

        Args:
            images_BHWC: uint8, 1 (grey) or 3 (red, green, blue) channels.
        """
        return self.standardise(self.finish(self.cut_centre(self.subtract_image(self.resize(images_BHWC)))))

    def subtract_image(self, x_BCHW: Tensor) -> Tensor:
        """Return resized images minus `mean_image`, if there is one, before anything is cut out, as Caffe does."""
        if self.mean_image is None:
            return x_BCHW
        return self.finish(x_BCHW) - self._mean_image.to(x_BCHW.device)

    def to_ten_crops(self, images_BHWC: Tensor) -> Tensor:
        """Return standardised views_VBCHW: centre, four corners, and their mirror images.

        Krizhevsky 2012, section 4.1.

        If `image_px` is the whole image, the corners are those of the image with a frame of one pixel of the mean
        around it.
        """
        x_BCHW = self.standardise(self.finish(self.subtract_image(self.resize(images_BHWC))))
        if x_BCHW.shape[2] == self.image_px:
            x_BCHW = F.pad(x_BCHW, (1, 1, 1, 1))
        bottom, right = (side - self.image_px for side in x_BCHW.shape[2:])
        places = [(bottom // 2, right // 2), (0, 0), (0, right), (bottom, 0), (bottom, right)]
        views = [self._cut(x_BCHW, top, left) for top, left in places]
        return torch.stack([*views, *(view.flip(3) for view in views)])

    def resize(self, images_BHWC: Tensor) -> Tensor:
        """Resize the square in the middle of the images to `resize_px`. They stay uint8 if nothing had to change.

        Cutting before resizing limits the work, because an image of one row and a million columns is allowed.
        """
        x_BCHW = images_BHWC.permute(0, 3, 1, 2)
        height, width = x_BCHW.shape[2:]
        shorter, target = min(height, width), self.resize_px or self.image_px
        top, left = (height - shorter) // 2, (width - shorter) // 2
        x_BCHW = x_BCHW[:, :, top : top + shorter, left : left + shorter]
        if shorter == target:
            return x_BCHW
        if len(x_BCHW) == 1 and shorter * shorter > _PIXELS_AT_ONCE:
            x_BCHW = self._narrow(x_BCHW, target)
        return _interpolate(self.finish(x_BCHW), target, target)

    def _narrow(self, x_BCHW: Tensor, width: int) -> Tensor:
        """A large image at its final width, some rows at a time, for as floating-point numbers it would take four times
        its memory. The rows are what `interpolate` would compute first anyway: the bits are the same.
        """
        height = x_BCHW.shape[2]
        rows = max(1, _PIXELS_AT_ONCE // x_BCHW.shape[3])
        narrow_BCHW = torch.empty(len(x_BCHW), self.channels, height, width)
        for top in range(0, height, rows):
            strip_BCHW = self.finish(x_BCHW[:, :, top : top + rows])
            narrow_BCHW[:, :, top : top + rows] = _interpolate(strip_BCHW, strip_BCHW.shape[2], width)
        return narrow_BCHW

    def cut_centre(self, x_BCHW: Tensor) -> Tensor:
        """Cut out the centre, `image_px` wide and high."""
        top, left = ((side - self.image_px) // 2 for side in x_BCHW.shape[2:])
        return self._cut(x_BCHW, top, left)

    def finish(self, x_BCHW: Tensor) -> Tensor:
        """Return the pixels as float32 of 0..255, contiguous, with the network's number of channels."""
        return _convert_channels(x_BCHW.to(torch.float32).contiguous(), self.channels)

    def standardise(self, x_BCHW: Tensor) -> Tensor:
        """Subtract the mean, divide by the deviation."""
        mean_C11 = torch.tensor(self.mean, dtype=torch.float32, device=x_BCHW.device)[:, None, None]
        std_C11 = torch.tensor(self.std, dtype=torch.float32, device=x_BCHW.device)[:, None, None]
        return (x_BCHW - mean_C11) / std_C11

    def _cut(self, x_BCHW: Tensor, top: int, left: int) -> Tensor:
        return x_BCHW[:, :, top : top + self.image_px, left : left + self.image_px]


def _interpolate(x_BCHW: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(x_BCHW, size=(height, width), mode="bilinear", antialias=True, align_corners=False)


def _convert_channels(x_BCHW: Tensor, channels: int) -> Tensor:
    found = x_BCHW.shape[1]
    if found not in (1, 3):
        raise ValueError(f"the images have {found} channels: give 1 (grey) or 3 (red, green, blue), without alpha")
    if found == channels:
        return x_BCHW
    if channels == 3:
        return x_BCHW.expand(-1, 3, -1, -1).contiguous()
    red, green, blue = x_BCHW[:, 0:1], x_BCHW[:, 1:2], x_BCHW[:, 2:3]
    return red * LUMA[0] + green * LUMA[1] + blue * LUMA[2]


def _without_zeros(std: tuple[float, ...]) -> tuple[float, ...]:
    """Replace a deviation of 0 by 1: a channel that never changes is only shifted."""
    return tuple(value or 1.0 for value in std)


def _match_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Convert a dataset's statistics to another number of channels.

    For a grey value the deviation is an upper bound.
    """
    if len(values) == channels:
        return values
    if channels == 3:
        return (values[0],) * 3
    return (sum(share * value for share, value in zip(LUMA, values, strict=True)),)
