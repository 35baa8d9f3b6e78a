"""From stored or decoded pixels to the network's input: the same code in training, evaluation and prediction.

B batch, C channels, H height, W width
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.pack import Pack

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


class Preprocessing(BaseModel):
    """The input transform of a network; it is stored with the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    image_px: int  #: side of the square input
    channels: Literal[1, 3]
    mean: tuple[float, ...]  #: by channel, 0..255
    std: tuple[float, ...]  #: by channel, 0..255

    @classmethod
    def of(cls, config: TrainConfig, pack: Pack) -> Preprocessing:
        """The transform of a run: what the config leaves open is the dataset's own."""
        channels = config.channels or pack.facts.channels
        return cls(
            image_px=config.image_px,
            channels=channels,
            mean=_match_channels(config.mean or pack.mean, channels),
            std=_match_channels(config.std or tuple(value or 1.0 for value in pack.std), channels),
        )

    def to_input(self, images_BHWC: Tensor) -> Tensor:
        """Standardised input_BCHW, float32 on the images' device.

        The shorter side is resized to `image_px` (bilinear, antialiased), then the centre is cut out. An image gives
        the same bits alone and in a batch.

        Args:
            images_BHWC: uint8, 1 (grey) or 3 (red, green, blue) channels.
        """
        x_BCHW = images_BHWC.permute(0, 3, 1, 2).to(torch.float32).contiguous()
        x_BCHW = self._resize(_convert_channels(x_BCHW, self.channels))
        mean_C11 = torch.tensor(self.mean, dtype=torch.float32, device=x_BCHW.device)[:, None, None]
        std_C11 = torch.tensor(self.std, dtype=torch.float32, device=x_BCHW.device)[:, None, None]
        return (x_BCHW - mean_C11) / std_C11

    def _resize(self, x_BCHW: Tensor) -> Tensor:
        height, width = x_BCHW.shape[2:]
        shorter = min(height, width)
        if shorter != self.image_px:
            size = [max(self.image_px, round(side * self.image_px / shorter)) for side in (height, width)]
            x_BCHW = F.interpolate(x_BCHW, size=size, mode="bilinear", antialias=True, align_corners=False)
        top, left = ((side - self.image_px) // 2 for side in x_BCHW.shape[2:])
        return x_BCHW[:, :, top : top + self.image_px, left : left + self.image_px].contiguous()


def _convert_channels(x_BCHW: Tensor, channels: int) -> Tensor:
    if x_BCHW.shape[1] == channels:
        return x_BCHW
    if channels == 3:
        return x_BCHW.expand(-1, 3, -1, -1).contiguous()
    red, green, blue = x_BCHW[:, 0:1], x_BCHW[:, 1:2], x_BCHW[:, 2:3]
    return red * _LUMA[0] + green * _LUMA[1] + blue * _LUMA[2]


def _match_channels(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """A dataset's statistics for another number of channels; of a luma's deviation this is an upper bound."""
    if len(values) == channels:
        return values
    if channels == 3:
        return (values[0],) * 3
    return (sum(share * value for share, value in zip(_LUMA, values, strict=True)),)
