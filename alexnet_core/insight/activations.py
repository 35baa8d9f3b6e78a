"""Draws what a layer computes for an image: its maps side by side, or its units in rows. No torch.

C maps, H height, W width, D units
"""

from __future__ import annotations

import io
import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.evaluation.filters import draw_filters
from alexnet_core.insight.methods import Scale

UNIT_PX = 8  #: side of a unit of a fully connected layer


def draw_activations(values: NDArray[np.float32], scale: Scale = "common") -> bytes:
    """Draw a grey PNG of one image's activations.

    Args:
        values: maps_CHW, sixteen of which stand in a row, or units_D, which fill a square row by row.
        scale: `common`: black is the layer's lowest value and white its highest. `own`: of each map alone.

    Raises:
        ValueError: a value is not finite.
    """
    if not np.isfinite(values).all():
        raise ValueError("an activation is not finite")
    return draw_filters(values[:, None], scale) if values.ndim == 3 else _draw_units(values)


def _draw_units(units_D: NDArray[np.float32]) -> bytes:
    low, high = float(units_D.min()), float(units_D.max())
    shares = (units_D - low) / (high - low) if high > low else np.full(len(units_D), 128 / 255)
    columns = math.ceil(math.sqrt(len(units_D)))
    squares = np.full(math.ceil(len(units_D) / columns) * columns, 255, np.uint8)  # white where there is no unit
    squares[: len(units_D)] = np.rint(255 * shares)
    picture = squares.reshape(-1, columns).repeat(UNIT_PX, axis=0).repeat(UNIT_PX, axis=1)
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "PNG")
    return buffer.getvalue()
