"""Images that are given as arrays, not as files: decoded pixels, or the network's own input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from api.serving.batching import Model
from api.serving.interface import ImageForm
from trainyard.errors import InvalidRequest


def to_model_input(model: Model, form: ImageForm, shape: Sequence[int], data: bytes) -> object:
    """Return the input of an image that was given as an array.

    Args:
        model: that is to compute it.
        form: `PIXELS` or `VALUES`.
        shape: of the array: HWC for pixels, CHW for values.
        data: its values.

    Raises:
        InvalidRequest: it does not fit the network.
    """
    if form is ImageForm.PIXELS:
        return model.preprocess(np.frombuffer(data, np.uint8).reshape(shape))
    if tuple(shape) != tuple(model.input_shape):
        raise InvalidRequest(
            f"the images of FP32 have the shape {list(shape)}, and the network takes {list(model.input_shape)}",
            param="inputs",
        )
    values_CHW = np.frombuffer(data, "<f4").reshape(shape)
    if not np.isfinite(values_CHW).all():
        raise InvalidRequest("the images of FP32 hold NaN or infinity", param="inputs")
    return model.take_input(values_CHW)
