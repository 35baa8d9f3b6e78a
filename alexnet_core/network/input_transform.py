"""The input transform of a network: which square of an image it sees, and how its values are standardised. No torch."""

from __future__ import annotations

import base64
from functools import cached_property
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, model_validator

LUMA = (0.299, 0.587, 0.114)  #: grey from red, green and blue: ITU-R BT.601


class InputTransform(BaseModel):
    """What is done to an image before the network sees it; stored with the weights."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="after")
    def _check_mean_image(self) -> Self:
        side = self.side_px
        if self.mean_image is not None and len(base64.b64decode(self.mean_image)) != 4 * self.channels * side * side:
            raise ValueError(f"mean_image is none of {self.channels} channels and {side} px")
        return self

    image_px: int  #: side of the square input
    resize_px: int | None = None  #: side that the middle square is resized to before; None: image_px
    channels: Literal[1, 3]
    mean: tuple[float, ...]  #: by channel, 0..255
    std: tuple[float, ...]  #: by channel, 0..255
    mean_image: str | None = None  #: subtracted from the resized image before `mean`: float32 CHW in base64

    @property
    def side_px(self) -> int:
        """The side that the middle square is resized to."""
        return self.resize_px or self.image_px

    @cached_property
    def mean_image_CHW(self) -> NDArray[np.float32]:  # noqa: N802 - CHW are dimensions
        """The mean image's values; empty where there is none."""
        values = np.frombuffer(base64.b64decode(self.mean_image or ""), dtype="<f4").astype(np.float32)
        return values.reshape(self.channels, -1, self.side_px) if len(values) else values
