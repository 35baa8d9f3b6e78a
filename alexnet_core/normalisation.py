"""Local response normalisation across neighbouring maps, several times faster than torch's.

torch pads and averages in five dimensions, knows no bf16 on a CPU and raises to a power. Here the sum over neighbours
is a product with a banded matrix of zeros and ones, the power -3/4 two square roots, and on a CPU a block of pixels
stays in the cache through all of it.

B batch, C channels, H height, W width, N pixels of all images
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_BLOCK_VALUES = 1 << 17  # of a block on a CPU: half a megabyte in fp32, three of which fit a core's cache


@dataclass(frozen=True)
class ResponseForm:
    """b = a / (k + alpha * sum over `size` neighbours of a^2)^beta; `size` is odd."""

    size: int
    k: float
    alpha: float  #: on the sum, not on the mean
    beta: float


#: Krizhevsky 2012, section 3.3, prints alpha = 1e-4 on the sum; the code that was run divided it by the size, and so
#: does Caffe's lrn_layer, whose k is 1.
FORMS = {
    "lrn": ResponseForm(size=5, k=2.0, alpha=1e-4, beta=0.75),
    "lrn_2012_code": ResponseForm(size=5, k=2.0, alpha=1e-4 / 5, beta=0.75),
    "lrn_caffe": ResponseForm(size=5, k=1.0, alpha=1e-4 / 5, beta=0.75),
}


class LocalResponseNorm(nn.Module):
    """Divide each value by a power of the squares of its neighbours in the same place of `size` adjacent maps."""

    def __init__(self, form: ResponseForm) -> None:
        super().__init__()
        self.form = form

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Same shape and type; bf16 and fp16 are computed in fp32 but for the sum."""
        batch, channels, height, width = x_BCHW.shape
        x_NC = x_BCHW.permute(0, 2, 3, 1).reshape(-1, channels)
        with torch.autocast(x_BCHW.device.type, enabled=False):  # a sum in bf16 only where the values are
            y_NC: Tensor = _Normalise.apply(x_NC, self.form)
        return y_NC.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """The form's numbers."""
        return repr(self.form)


class _Normalise(torch.autograd.Function):
    """With s = k + alpha * (a^2 summed over neighbours): b = a s^-beta."""

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, form: ResponseForm) -> Tensor:
        band_CC = _band(x_NC, form.size)
        y_NC, s_NC = torch.empty_like(x_NC), torch.empty_like(x_NC, dtype=_wide(x_NC))
        for rows in _blocks(x_NC):
            x, s = x_NC[rows], s_NC[rows]
            s.copy_((x * x) @ band_CC).mul_(form.alpha).add_(form.k)
            y_NC[rows] = _power(s, form.beta).mul_(x)
        ctx.save_for_backward(x_NC, s_NC)
        ctx.form = form
        return y_NC

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """The input's gradient: g s^-beta - 2 alpha beta a * (g a s^(-beta - 1) summed over neighbours)."""
        x_NC, s_NC = ctx.saved_tensors
        form: ResponseForm = ctx.form
        band_CC = _band(x_NC, form.size)
        grad_NC = torch.empty_like(x_NC)
        for rows in _blocks(x_NC):
            x, s, grad = x_NC[rows], s_NC[rows], grads[0][rows]
            scaled = grad * _power(s, form.beta)
            shared = (scaled * x).div_(s).to(x.dtype) @ band_CC
            grad_NC[rows] = scaled.sub_(shared * x, alpha=2 * form.alpha * form.beta)
        return grad_NC, None


def _power(s: Tensor, beta: float) -> Tensor:
    """s^-beta."""
    if beta != 0.75:
        return s.pow(-beta)
    root = s.rsqrt()
    return root.sqrt().mul_(root)


def _band(x_NC: Tensor, size: int) -> Tensor:
    """Ones where two maps are neighbours."""
    place = torch.arange(x_NC.shape[1], device=x_NC.device)
    return ((place[:, None] - place).abs() <= size // 2).to(x_NC.dtype)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _blocks(x_NC: Tensor) -> Iterator[slice]:
    """The rows in blocks that fit a CPU's cache; all at once on a GPU."""
    if x_NC.device.type != "cpu":
        return iter([slice(None)])
    step = max(1, _BLOCK_VALUES // x_NC.shape[1])
    return (slice(start, start + step) for start in range(0, len(x_NC), step))
