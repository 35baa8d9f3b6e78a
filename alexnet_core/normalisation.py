"""Local response normalisation across neighbouring maps.

B batch, C channels, H height, W width
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn


@dataclass(frozen=True)
class ResponseForm:
    """b = a / (k + alpha * sum over `size` neighbours of a^2)^beta."""

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
        """Same shape and type."""
        form = self.form
        return F.local_response_norm(x_BCHW, form.size, form.alpha * form.size, form.beta, form.k)

    def extra_repr(self) -> str:
        """The form's numbers."""
        return repr(self.form)
