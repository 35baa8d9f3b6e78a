"""Explains an answer: how much each part of an image speaks for a class, or against it. The methods are Captum's.

C channels, H height, W width, K classes
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, Occlusion
from numpy.typing import NDArray
from torch import Tensor

from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.insight.methods import Method
from alexnet_core.insight.named_layers import find_last_maps

STEPS = 48  #: of integrated gradients
_AT_ONCE = 8  # images of one batch: they are computed forwards and backwards
_OCCLUDED_AT_ONCE = 16
_WINDOWS_A_SIDE = 6  # the window that hides a part is a sixth of the image's side, and moves by half of that
_CLIPPED_SHARE = 0.01  # of the pixels, those with the strongest values, which are shown like the next strongest


@dataclass(frozen=True)
class Explanation:
    """What in an image speaks for a class."""

    target: int  #: the class
    values: NDArray[
        np.float32
    ]  #: (H, W): of the network's input, in the method's own unit; above 0 speaks for the class
    heat: NDArray[np.float32]  #: (H, W): the same, -1 to 1


def explain(predictor: Predictor, image_HWC: NDArray[np.uint8], method: Method, target: int) -> Explanation:
    """Explain the logit of a class for a decoded image. The same network and image give the same values.

    Args:
        predictor: the network; its weights stay as they are.
        image_HWC: with 1 or 3 channels.
        method: see there.
        target: the class, 0 to K - 1.
    """
    x_1CHW = predictor.preprocess(image_HWC)[None].to(predictor.device)
    predictor.model.requires_grad_(False)  # only the input's gradients are wanted
    values_HW = _METHODS[method](predictor, x_1CHW, target).detach().float().cpu().numpy()
    return Explanation(target, values_HW, scale(values_HW))


def scale(values_HW: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scale values to -1..1. The strongest hundredth is clipped, so that single pixels do not pale all others."""
    most = float(np.quantile(np.abs(values_HW), 1 - _CLIPPED_SHARE, method="higher"))
    if not np.isfinite(most) or most <= 0:
        return np.zeros_like(values_HW)
    heat_HW: NDArray[np.float32] = np.clip(values_HW / most, -1, 1).astype(np.float32)
    return heat_HW


def _grad_cam(predictor: Predictor, x_1CHW: Tensor, target: int) -> Tensor:
    method = LayerGradCam(predictor.model, find_last_maps(predictor.model))
    x_1CHW.requires_grad_(True)  # otherwise nothing has gradients
    coarse_11HW = method.attribute(x_1CHW, target=target, relu_attributions=True)
    side = predictor.preprocessing.image_px
    fine_11HW: Tensor = LayerAttribution.interpolate(coarse_11HW, (side, side), "bilinear")
    return fine_11HW[0, 0]


def _integrated_gradients(predictor: Predictor, x_1CHW: Tensor, target: int) -> Tensor:
    found_1CHW: Tensor = IntegratedGradients(predictor.model).attribute(
        x_1CHW, baselines=0, target=target, n_steps=STEPS, internal_batch_size=_AT_ONCE
    )
    return found_1CHW[0].sum(dim=0)


@torch.no_grad()
def _occlusion(predictor: Predictor, x_1CHW: Tensor, target: int) -> Tensor:
    channels, side = x_1CHW.shape[1], x_1CHW.shape[2]
    window = max(2, side // _WINDOWS_A_SIDE)
    found_1CHW: Tensor = Occlusion(predictor.model).attribute(
        x_1CHW, sliding_window_shapes=(channels, window, window), strides=(channels, window // 2, window // 2),
        baselines=0, target=target, perturbations_per_eval=_OCCLUDED_AT_ONCE,
    )  # fmt: skip
    return found_1CHW[0].mean(dim=0)  # the same in all channels: they are hidden together


_METHODS = {
    Method.GRAD_CAM: _grad_cam,
    Method.INTEGRATED_GRADIENTS: _integrated_gradients,
    Method.OCCLUSION: _occlusion,
}
