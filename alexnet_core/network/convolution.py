"""Computes the convolution of maps of a few pixels as one matrix product.

On a map of 2x2 or 4x4 pixels a 3x3 or 5x5 kernel reaches almost every pixel from almost every other, and most of what
an ordinary convolution multiplies is padding. As a matrix from all inputs of an image to all its outputs it needs fewer
products, and both passes are plain matrix products, which CPUs compute at their best speed. The usual backward pass is
far slower on such maps.

B batch, C channels in, O channels out, H height, W width
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

MAX_PIXELS = 16  #: of a map: above, the matrix has more zeros than the padding that it saves


class SmallMapConv2d(nn.Conv2d):
    """A convolution with stride 1 and unchanged size that is fast on small maps; weights as in `nn.Conv2d`.

    Without gradients, or on a GPU, torch's own kernels are as good and are used instead.

    Args:
        in_channels: C.
        out_channels: O.
        kernel: side of the square kernel, odd.
        bias: whether there is one.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, kernel, padding=kernel // 2, bias=bias)
        self._spare: Tensor | None = None  # a matrix of an earlier step: what is 0 in it always is
        self._spare_grad: Tensor | None = None  # memory of an earlier one's gradient

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Convolve; positions outside the map count as 0."""
        is_small = x_BCHW.shape[2] * x_BCHW.shape[3] <= MAX_PIXELS
        if not (is_small and torch.is_grad_enabled() and x_BCHW.device.type == "cpu"):
            return super().forward(x_BCHW)
        batch, _, height, width = x_BCHW.shape
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x_BCHW.dtype
        inputs = x_BCHW.to(dtype).permute(0, 2, 3, 1).reshape(batch, -1)
        blocks = _write_out(self.weight, height, width, dtype, self._spare)
        self._spare = None  # until this one's backward pass gives it back
        outputs_BOHW: Tensor = _WrittenOut.apply(inputs, self.weight, self.bias, blocks, self)
        return outputs_BOHW

    def give_back(self, blocks: Tensor) -> None:
        """Take back a matrix that is no longer needed, for the next step."""
        self._spare = blocks

    def get_spare_grad(self, blocks: Tensor) -> Tensor:
        """Return memory for the gradient of such a matrix.

        It is always the same memory, because the system is slow to provide as much again.
        """
        spare = self._spare_grad
        if spare is None or (spare.shape, spare.dtype) != (blocks.shape, blocks.dtype):
            self._spare_grad = spare = torch.empty_like(blocks)
        return spare


class _WrittenOut(torch.autograd.Function):
    """Computes (B, O, H, W), channels-last, from all inputs of an image (B, H W C), and the gradients.

    The output is not a view: the next layer may overwrite it, which autograd makes slow for views.
    """

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, kernel_OCKK: Tensor, bias_O: Tensor | None, blocks: Tensor, layer: SmallMapConv2d
    ) -> Tensor:
        height, width, num_out = blocks.shape[:3]
        shape = (len(inputs), num_out, height, width)
        outputs_BOHW = torch.empty(shape, dtype=inputs.dtype, memory_format=torch.channels_last)
        outputs = outputs_BOHW.permute(0, 2, 3, 1)
        torch.mm(inputs, blocks.view(-1, inputs.shape[1]).t(), out=outputs.view(len(inputs), -1))
        if bias_O is not None:
            outputs.add_(bias_O.to(inputs.dtype))
        ctx.save_for_backward(inputs, blocks, kernel_OCKK)
        ctx.layer, ctx.has_bias = layer, bias_O is not None
        return outputs_BOHW

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        inputs, blocks, kernel_OCKK = ctx.saved_tensors
        grad = grads[0].permute(0, 2, 3, 1).reshape(len(inputs), -1)
        grad_inputs = grad @ blocks.view(-1, inputs.shape[1]) if ctx.needs_input_grad[0] else None
        ctx.layer.give_back(blocks)
        grad_blocks = ctx.layer.get_spare_grad(blocks)
        torch.mm(grad.t(), inputs, out=grad_blocks.view(-1, inputs.shape[1]))
        grad_kernel = _gather(grad_blocks, kernel_OCKK)
        grad_bias = None
        if ctx.has_bias:
            grad_bias = grad.view(-1, len(kernel_OCKK)).sum(dim=0, dtype=kernel_OCKK.dtype)
        return grad_inputs, grad_kernel, grad_bias, None, None


def _write_out(kernel_OCKK: Tensor, height: int, width: int, dtype: torch.dtype, earlier: Tensor | None) -> Tensor:
    """Build the matrix from all inputs of an image to all its outputs.

    It reuses the memory of an earlier one if it fits.

    Returns:
        (H, W, O, H, W, C): from the last three to the first three.
    """
    kernel_OKKC = kernel_OCKK.detach().permute(0, 2, 3, 1).to(dtype)
    num_out, side, _, num_in = kernel_OKKC.shape
    shape = (height, width, num_out, height, width, num_in)
    blocks = earlier if earlier is not None and (earlier.shape, earlier.dtype) == (shape, dtype) else None
    if blocks is None:
        blocks = torch.zeros(shape, dtype=dtype)
    for row, column in _pixels(height, width):
        (rows, in_rows), (columns, in_columns) = _reach(row, side, height), _reach(column, side, width)
        blocks[row, column, :, in_rows, in_columns].copy_(kernel_OKKC[:, rows, columns])
    return blocks


def _gather(blocks: Tensor, kernel_OCKK: Tensor) -> Tensor:
    """Return the kernel's gradient from that of the matrix.

    It is a sum over the positions at which each value of the kernel appears.
    """
    side = kernel_OCKK.shape[2]
    height, width = blocks.shape[:2]
    grad_OCKK = torch.zeros_like(kernel_OCKK, requires_grad=False)
    grad_OKKC = grad_OCKK.permute(0, 2, 3, 1)
    for row, column in _pixels(height, width):
        (rows, in_rows), (columns, in_columns) = _reach(row, side, height), _reach(column, side, width)
        grad_OKKC[:, rows, columns] += blocks[row, column].to(grad_OKKC.dtype)[:, in_rows, in_columns]
    return grad_OCKK  # no view: autograd takes it without a copy


def _pixels(height: int, width: int) -> Iterator[tuple[int, int]]:
    return ((row, column) for row in range(height) for column in range(width))


def _reach(place: int, side: int, size: int) -> tuple[slice, slice]:
    """Return the part of a kernel that lies inside the map when centred on a position, and where that is."""
    first = place - side // 2
    start, end = max(0, first), min(size, first + side)
    return slice(start - first, end - first), slice(start, end)
