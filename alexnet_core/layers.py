"""Convolution and pooling that pad as TensorFlow's "same" does.

B batch, C channels, H height, W width
"""

from __future__ import annotations

import math

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


def same_padding(size_px: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and after, so that the output has ceil(size / stride) positions; the odd one goes after."""
    total = max(0, (math.ceil(size_px / stride) - 1) * stride + kernel - size_px)
    return total // 2, total - total // 2


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, which depends on the input's size."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve; the output has ceil(H / stride) rows and ceil(W / stride) columns."""
        return super().forward(_pad_same(x_BCHW, int(self.kernel_size[0]), int(self.stride[0]), 0.0))


class SameMaxPool2d(nn.Module):
    """Max pooling with TensorFlow's "same" padding; padded places never win."""

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Pool; the output has ceil(H / stride) rows and ceil(W / stride) columns."""
        return F.max_pool2d(_pad_same(x_BCHW, self.kernel, self.stride, float("-inf")), self.kernel, self.stride)


def _pad_same(x_BCHW: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    top, bottom = same_padding(x_BCHW.shape[2], kernel, stride)
    left, right = same_padding(x_BCHW.shape[3], kernel, stride)
    if not (top or bottom or left or right):
        return x_BCHW
    return F.pad(x_BCHW, (left, right, top, bottom), value=value)
