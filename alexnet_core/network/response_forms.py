"""The numbers of local response normalisation in its published forms. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ResponseForm:
    """The numbers in b = a / (k + alpha * sum over `size` neighbours of a^2)^beta; `size` is odd."""

    size: int
    k: float
    alpha: float  #: on the sum, not on the mean
    beta: float


def response_form(norm: str, *, size: int, k: float | None, alpha: float, beta: float) -> ResponseForm:
    """Return the numbers of a norm across maps.

    Krizhevsky 2012, section 3.3, prints alpha as a factor on the sum. The code that was run divided it by the size, and
    so does Caffe's lrn_layer, whose k is 1.

    Args:
        norm: one of `TrainConfig.norm`'s that begin with `lrn`.
        size: how many maps are added up.
        k: None: the norm's own.
        alpha: as that norm writes it.
        beta: the power.
    """
    own_k = 1.0 if norm == "lrn_caffe" else 2.0
    return ResponseForm(size, own_k if k is None else k, alpha if norm == "lrn" else alpha / size, beta)


#: The norms with the numbers that they are known by.
FORMS = {
    norm: response_form(norm, size=5, k=None, alpha=1e-4, beta=0.75) for norm in ("lrn", "lrn_2012_code", "lrn_caffe")
}
