"""Fully connected layers whose large matrices cross a CPU's memory as seldom as they can.

In bf16 on a CPU, a step of a large layer is bound by memory, not by products: autocast reads the fp32 matrix to make a
bf16 copy, and turns the bf16 gradient into an fp32 one that the optimiser then reads. Here the optimiser that has just
updated a piece of the matrix writes that piece's copy too, and takes the gradient as it comes.

B batch, I inputs, O outputs
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MIN_VALUES = 1 << 20  #: of a matrix; a smaller one stays in the cache anyway


class WideLinear(nn.Linear):
    """`nn.Linear`, with a low-precision copy of its matrix while an optimiser keeps that up to date."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self._copy_OI: Tensor | None = None
        self._copy_version = -1
        self._spare_OI: Tensor | None = None  # memory of an earlier gradient
        self._is_kept = False

    def keep_copy(self) -> bool:
        """Have gradients in the precision of the products from now on, for an optimiser that can take them.

        Returns:
            False: it would not pay for this layer, and nothing changes.
        """
        self._is_kept = self.weight.device.type == "cpu" and self.weight.numel() >= MIN_VALUES
        if self._is_kept:
            self.weight.grad_dtype = None  # whatever the product gives
        return self._is_kept

    def forward(self, x_BI: Tensor) -> Tensor:
        """The product; the same values with and without the copy."""
        if not (self._is_kept and torch.is_grad_enabled() and torch.is_autocast_enabled("cpu")):
            return super().forward(x_BI)
        dtype = torch.get_autocast_dtype("cpu")
        y_BO: Tensor = _Product.apply(x_BI.to(dtype), self.weight, self.bias, self.get_copy(dtype), self)
        return y_BO

    def get_copy(self, dtype: torch.dtype) -> Tensor:
        """The matrix in that type; made anew if somebody else than the optimiser changed the matrix."""
        if self._copy_OI is None or self._copy_OI.dtype != dtype or self._copy_version != self.weight._version:
            self._copy_OI = self.weight.detach().to(dtype)
            self._copy_version = self.weight._version
        return self._copy_OI

    def find_copy(self) -> Tensor | None:
        """The copy that an optimiser must write to; None if there is none yet."""
        return self._copy_OI

    def take_spare(self) -> Tensor:
        """Memory for a gradient, that nobody else holds."""
        spare, self._spare_OI = self._spare_OI, None
        copy = self._copy_OI
        assert copy is not None
        return torch.empty_like(copy) if spare is None or spare.dtype != copy.dtype else spare

    def give_back(self, grad_OI: Tensor) -> None:
        """Take a gradient that nobody needs any more for the next one's memory."""
        self._spare_OI = grad_OI

    def trust_copy(self) -> None:
        """The copy was written together with the matrix."""
        self._copy_version = self.weight._version


class _Product(torch.autograd.Function):
    """x W^T + b by the copy of W; the gradient of W in the copy's precision."""

    @staticmethod
    def forward(
        ctx: Any, x_BI: Tensor, _weight_OI: Tensor, bias_O: Tensor, copy_OI: Tensor, layer: WideLinear
    ) -> Tensor:
        ctx.save_for_backward(x_BI, copy_OI)
        ctx.bias_type, ctx.layer = bias_O.dtype, layer
        return torch.addmm(bias_O.to(copy_OI.dtype), x_BI, copy_OI.t())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_BI, copy_OI = ctx.saved_tensors
        grad_BO = grads[0]
        grad_OI = torch.mm(grad_BO.t(), x_BI, out=ctx.layer.take_spare())
        return grad_BO @ copy_OI, grad_OI, grad_BO.sum(dim=0, dtype=ctx.bias_type), None, None
