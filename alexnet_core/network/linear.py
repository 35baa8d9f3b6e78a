"""Fully connected layers that move their large matrices through a CPU's memory as rarely as possible.

In bf16 on a CPU, memory and not products limits the speed of a large layer's step: autocast reads the fp32 matrix to
make a bf16 copy, and turns the bf16 gradient into an fp32 one that the optimiser then reads. Here the optimiser, which
has just updated a piece of the matrix, also writes that piece's copy, and uses the bf16 gradient as it is.

In any precision the gradients of such a layer always use the same memory. New memory of that size would come from the
system page by page in each step, and for 64 MB that takes as long as the product itself.

B batch, I inputs, O outputs
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

MIN_VALUES = 1 << 20  #: of a matrix; a smaller one stays in the cache anyway


class WideLinear(nn.Linear):
    """`nn.Linear` with permanent memory for its gradient, and a low-precision copy of its matrix."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self._copy_OI: Tensor | None = None
        self._copy_version = -1
        self._spare_OI: Tensor | None = None  # memory of an earlier gradient
        self._is_kept = False

    def keep_memory(self) -> bool:
        """Let gradients have the precision of the products.

        For an optimiser that accepts such gradients and gives their memory back.

        Returns:
            False: it would not pay for this layer, and nothing changes.
        """
        self._is_kept = self.weight.device.type == "cpu" and self.weight.numel() >= MIN_VALUES
        if self._is_kept:
            self.weight.grad_dtype = None  # whatever the product gives
        return self._is_kept

    def forward(self, x_BI: Tensor) -> Tensor:
        """Compute the product; it has the same values with and without the copy."""
        if not (self._is_kept and torch.is_grad_enabled()):
            return super().forward(x_BI)
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else self.weight.dtype
        factor_OI = self.weight.detach() if dtype == self.weight.dtype else self.get_copy(dtype)
        y_BO: Tensor = _Product.apply(x_BI.to(dtype), self.weight, self.bias, factor_OI, self)
        return y_BO

    def get_copy(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix in that type. It is copied again if anyone but the optimiser has changed the matrix."""
        if self._copy_OI is None or self._copy_OI.dtype != dtype or self._copy_version != self.weight._version:
            self._copy_OI = self.weight.detach().to(dtype)
            self._copy_version = self.weight._version
        return self._copy_OI

    def find_copy(self) -> Tensor | None:
        """Return the copy that an optimiser must write to. None: there is none yet."""
        return self._copy_OI

    def take_spare(self, like_OI: Tensor) -> Tensor:
        """Return unused memory for a gradient of that type."""
        spare, self._spare_OI = self._spare_OI, None
        return torch.empty_like(like_OI) if spare is None or spare.dtype != like_OI.dtype else spare

    def give_back(self, grad_OI: Tensor) -> None:
        """Take back the memory of a gradient that is no longer needed, for the next one."""
        self._spare_OI = grad_OI

    def trust_copy(self) -> None:
        """Note that the copy was written together with the matrix."""
        self._copy_version = self.weight._version


class _Product(torch.autograd.Function):
    """Computes x W^T + b with W or its copy, by torch's own products.

    The gradient of W has the type of the factors.
    """

    @staticmethod
    def forward(
        ctx: Any, x_BI: Tensor, _weight_OI: Tensor, bias_O: Tensor, factor_OI: Tensor, layer: WideLinear
    ) -> Tensor:
        ctx.save_for_backward(x_BI, factor_OI)
        ctx.bias_type, ctx.layer = bias_O.dtype, layer
        return torch.addmm(bias_O.to(factor_OI.dtype), x_BI, factor_OI.t())

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x_BI, factor_OI = ctx.saved_tensors
        grad_BO = grads[0]
        grad_OI = torch.mm(grad_BO.t(), x_BI, out=ctx.layer.take_spare(factor_OI))
        return grad_BO @ factor_OI, grad_OI, grad_BO.sum(dim=0, dtype=ctx.bias_type), None, None
