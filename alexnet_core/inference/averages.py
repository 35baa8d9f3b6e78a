"""Averages maps to a side that need not divide theirs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_shares(size: int, out: int) -> NDArray[np.float32]:
    """Return the matrix (out, size) that averages a row of values over PyTorch's adaptive windows."""
    shares = np.zeros((out, size), dtype=np.float32)
    for place in range(out):
        start, end = place * size // out, -(-(place + 1) * size // out)
        shares[place, start:end] = 1 / (end - start)
    return shares
