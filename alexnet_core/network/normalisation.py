"""Local response normalisation, several times faster than torch's: across neighbouring maps, and within a map.

torch pads and averages in five dimensions, has no bf16 version on a CPU, and raises to a power. Here the sum over
neighbours is a few additions of shifted maps, and the power -3/4 is two square roots. On a CPU a block of pixels stays
in the cache through all of this, in memory that the next block uses again.

B batch, C channels, H height, W width, N pixels of all images
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from alexnet_core.network.response_forms import ResponseForm

_BLOCK_VALUES = 1 << 18  # of a block on a CPU: 1 MB in fp32, of which five are in use


class LocalResponseNorm(nn.Module):
    """Divides each value by a power of a sum of squares over `size` neighbouring maps at the same position."""

    def __init__(self, form: ResponseForm, groups: int = 1) -> None:
        """Build the norm.

        Args:
            form: its numbers.
            groups: 2: neither half of the maps sees the other.
        """
        super().__init__()
        self.form, self.groups = form, groups
        self.crosses_towers = groups == 1  #: whether it reads the maps of both halves

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise. Shape and type stay the same; bf16 and fp16 are computed in fp32."""
        batch, channels, height, width = x_BCHW.shape
        x_NC = x_BCHW.permute(0, 2, 3, 1).reshape(-1, channels // self.groups)
        y_NC: Tensor = _Normalise.apply(x_NC, self.form)
        return y_NC.view(batch, height, width, channels).permute(0, 3, 1, 2)

    def extra_repr(self) -> str:
        """Return the numbers of the norm."""
        return repr(self.form) if self.groups == 1 else f"{self.form!r}, groups={self.groups}"


class MapResponseNorm(nn.Module):
    """Divides each value by a power of a sum of squares over a square of pixels in the same map.

    The square has `size` pixels on each side.

    b = a / (k + alpha * mean of a^2)^beta; pixels outside the map count as 0, and the mean is over the whole square.
    Written for the 2012 run's layer `cnorm2a`.
    """

    def __init__(self, form: ResponseForm) -> None:
        """Build the norm.

        Args:
            form: its numbers; alpha is on the mean over the square, not on the sum.
        """
        super().__init__()
        self.form = form

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Normalise. Shape and type stay the same; bf16 and fp16 are computed in fp32."""
        form = self.form
        with torch.autocast(x_BCHW.device.type, enabled=False):
            wide_BCHW = x_BCHW.to(_wide(x_BCHW))
            mean_BCHW = F.avg_pool2d(wide_BCHW.square(), form.size, stride=1, padding=form.size // 2)
            y_BCHW: Tensor = wide_BCHW * (form.k + form.alpha * mean_BCHW).pow(-form.beta)
        return y_BCHW.to(x_BCHW.dtype)

    def extra_repr(self) -> str:
        """Return the numbers of the norm."""
        return repr(self.form)


class _Normalise(torch.autograd.Function):
    """Computes b = a s^-beta with s = k + alpha * (a^2 summed over neighbours)."""

    @staticmethod
    def forward(ctx: Any, x_NC: Tensor, form: ResponseForm) -> Tensor:
        y_NC, s_NC = torch.empty_like(x_NC), torch.empty_like(x_NC, dtype=_wide(x_NC))
        scratch = _Scratch(x_NC, form)
        for rows in _blocks(x_NC):
            x, s = x_NC[rows], s_NC[rows]
            scratch.fit(len(x))
            scratch.middle.copy_(x).square_()
            scratch.add_neighbours(s).mul_(form.alpha).add_(form.k)
            torch.mul(scratch.raise_power(s), x, out=y_NC[rows])
        ctx.save_for_backward(x_NC, s_NC)
        ctx.form = form
        return y_NC

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        """Return the input's gradient: g s^-beta - 2 alpha beta a * (g a s^(-beta - 1) summed over neighbours)."""
        x_NC, s_NC = ctx.saved_tensors
        form: ResponseForm = ctx.form
        grad_NC = torch.empty_like(x_NC)
        scratch = _Scratch(x_NC, form)
        for rows in _blocks(x_NC):
            x, s = x_NC[rows], s_NC[rows]
            scratch.fit(len(x))
            scaled = scratch.raise_power(s).mul_(grads[0][rows])
            torch.mul(scaled, x, out=scratch.middle).div_(s)
            shared = scratch.add_neighbours(scratch.sums).mul_(x)
            torch.sub(scaled, shared, alpha=2 * form.alpha * form.beta, out=grad_NC[rows])
        return grad_NC, None


class _Scratch:
    """Memory for a block of pixels: values between margins of zeros, their sums, and powers."""

    def __init__(self, x_NC: Tensor, form: ResponseForm) -> None:
        self._form, self._channels = form, x_NC.shape[1]
        rows = min(len(x_NC), _count_rows(x_NC))
        widths = (self._channels + form.size - 1, self._channels, self._channels)
        self._whole = [torch.zeros(rows, width, dtype=_wide(x_NC), device=x_NC.device) for width in widths]
        self.fit(rows)

    def fit(self, rows: int) -> None:
        """Use this number of rows from now on."""
        self._padded, self.sums, self._powers = (memory[:rows] for memory in self._whole)
        margin = self._form.size // 2
        self.middle = self._padded[:, margin : margin + self._channels]  #: where values go that are to be added up

    def add_neighbours(self, sums: Tensor) -> Tensor:
        """Sum the middle over `size` neighbouring maps, into that memory."""
        sums.copy_(self._padded[:, : self._channels])
        for start in range(1, self._form.size):
            sums.add_(self._padded[:, start : start + self._channels])
        return sums

    def raise_power(self, s: Tensor) -> Tensor:
        """Compute s^-beta; `sums` is overwritten."""
        if self._form.beta != 0.75:
            return torch.pow(s, -self._form.beta, out=self._powers)
        root = torch.rsqrt(s, out=self.sums)
        return torch.sqrt(root, out=self._powers).mul_(root)


def _wide(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _blocks(x_NC: Tensor) -> Iterator[slice]:
    step = _count_rows(x_NC)
    return (slice(start, start + step) for start in range(0, len(x_NC), step))


def _count_rows(x_NC: Tensor) -> int:
    """Return the pixels of a block: as many as fit into a CPU's cache, or all of them on a GPU."""
    return max(1, _BLOCK_VALUES // x_NC.shape[1] if x_NC.device.type == "cpu" else len(x_NC))
