"""Layers that torch.nn lacks: TensorFlow's "same" padding, padding only after the maps, and the dropout of 2012.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def same_padding(size_px: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's padding before and after; an odd pixel goes after.

    The output has ceil(size / stride) positions.
    """
    total = max(0, (math.ceil(size_px / stride) - 1) * stride + kernel - size_px)
    return total // 2, total - total // 2


def ceil_padding(size_px: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return padding after the maps only, as in the code of 2012.

    The output has 1 + ceil((size - kernel) / stride) positions.
    """
    steps = math.ceil(max(0, size_px - kernel) / stride)
    return 0, max(0, steps * stride + kernel - size_px)


class PaddedConv2d(nn.Conv2d):
    """A convolution whose padding depends on the input's size: TensorFlow's "same" rule, or after only."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, *, rule: str, groups: int, bias: bool
    ) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=bias)
        self._rule = same_padding if rule == "tf_same" else ceil_padding

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve; positions outside the map count as 0."""
        (top, bottom), (left, right) = (self.padding_of(int(size)) for size in x_BCHW.shape[2:])
        if top or bottom or left or right:
            x_BCHW = F.pad(x_BCHW, (left, right, top, bottom))
        return super().forward(x_BCHW)

    def padding_of(self, size_px: int) -> tuple[int, int]:
        """Return the pixels to add before and after maps of this side."""
        return self._rule(size_px, int(self.kernel_size[0]), int(self.stride[0]))


class SameMaxPool2d(nn.Module):
    """Max pooling with TensorFlow's "same" padding; padding never has the highest value."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Pool; the output has ceil(H / stride) rows and ceil(W / stride) columns."""
        (top, bottom), (left, right) = (same_padding(int(n), self.kernel, self.stride) for n in x_BCHW.shape[2:])
        if top or bottom or left or right:
            x_BCHW = F.pad(x_BCHW, (left, right, top, bottom), value=float("-inf"))
        return F.max_pool2d(x_BCHW, self.kernel, self.stride)


class Dropout(nn.Module):
    """Dropout as in most libraries: in training kept values are scaled up, afterwards nothing changes."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop and scale in training."""
        if not (self.training and self.rate):
            return x
        return x * draw_kept(x, 1 - self.rate).div_(1 - self.rate)


class Dropout2012(nn.Module):
    """Dropout as in the paper: no scaling in training, afterwards all outputs are scaled down.

    They are multiplied by the share that training keeps.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """Drop in training, scale in evaluation (Krizhevsky 2012, section 4.2)."""
        return x * draw_kept(x, 1 - self.rate) if self.training else x * (1 - self.rate)


def draw_kept(x: Tensor, share: float) -> Tensor:
    """Draw ones with that probability, else zeros, in the shape and type of x, from torch's generator.

    On a CPU the probability is rounded to 1/65536: torch draws one value after the other there, so each draw of 64 bits
    is used for four values.
    """
    if x.device.type != "cpu":
        return torch.empty_like(x).bernoulli_(share)
    kept = round(share * 65536)
    if kept == 65536:  # of all draws; as a limit it is no number of 16 bits
        return torch.ones_like(x)
    draws = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64).random_(-(1 << 63), None)
    return (draws.view(torch.int16)[: x.numel()].view(x.shape) < kept - 32768).to(x.dtype)
