"""The choices that a request for insight has. Torch-free, so that the API can offer them."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Split = Literal["train", "validation", "test"]
#: Black and white are the extremes of all maps or kernels together, or of each.
Scale = Literal["common", "own"]


class Method(StrEnum):
    """How an answer is explained."""

    GRAD_CAM = "grad_cam"  #: gradients at the last maps (Selvaraju et al., ICCV 2017): coarse, only what speaks for it
    INTEGRATED_GRADIENTS = "integrated_gradients"  #: from the mean image (Sundararajan et al., ICML 2017): by pixel
    OCCLUSION = "occlusion"  #: parts are replaced by the mean image (Zeiler and Fergus, ECCV 2014): the most literal


class View(StrEnum):
    """What of an explanation is drawn."""

    HEAT = "heat"  #: the heat map alone, RGBA, to be laid over the image
    OVERLAY = "overlay"  #: the heat map over the image, RGB


class PassKind(StrEnum):
    """What is computed for every image of a split."""

    ANSWERS = "answers"  #: how the network answers each image
    CALIBRATION = "calibration"  #: how far its probabilities can be trusted
    INDEX = "index"  #: what similar images are found by
