"""The network: five convolutions, pools after 1, 2 and 5, three fully connected layers with dropout.

B batch, C channels, H height, W width, K classes
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from alexnet_core.config import TrainConfig
from alexnet_core.errors import CheckpointIncompatible
from alexnet_core.network.convolution import SmallMapConv2d
from alexnet_core.network.geometry import (
    LAST_LAYER,
    NORMALISED_CONVS,
    POOL_KERNELS,
    POOLED_CONVS,
    TOWER_CONVS,
    find_misfits,
)
from alexnet_core.network.initialisation import initialise
from alexnet_core.network.layers import Dropout, Dropout2012, PaddedConv2d, SameMaxPool2d
from alexnet_core.network.linear import WideLinear
from alexnet_core.network.normalisation import LocalResponseNorm, MapResponseNorm
from alexnet_core.network.response_forms import FORMS, ResponseForm, response_form

_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


class AlexNet(nn.Module):
    """The network: `features` (convolutions and pools), then `classifier` (fully connected layers)."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK of standardised images."""
        logits_BK: Tensor = self.classifier(self.features(x_BCHW).flatten(1))
        return logits_BK


def build_model(config: TrainConfig, num_classes: int, channels: int) -> AlexNet:
    """Build an initialised network on the CPU, channels-last. Draws from torch's global generator."""
    features = _build_features(config, channels)
    with torch.no_grad():
        features.eval()
        num_features = features(torch.zeros(1, channels, config.image_px, config.image_px)).numel()
        features.train()
    model = AlexNet(features, _build_classifier(config, num_features, num_classes))
    initialise(model, config.init)
    return model.to(memory_format=torch.channels_last)


@torch.no_grad()
def copy_weights(model: AlexNet, weights: Mapping[str, Tensor]) -> list[str]:
    """Start from another network's weights. The last layer is new if that has another number of classes.

    Returns:
        The names of the layers that start anew.

    Raises:
        CheckpointIncompatible: the networks differ in anything else.
    """
    own = model.state_dict()
    shapes, others = ({name: tuple(value.shape) for name, value in of.items()} for of in (own, weights))
    if misfits := find_misfits(shapes, others):
        raise CheckpointIncompatible(
            f"the weights to start from belong to another network: {', '.join(misfits[:4])} differ"
        )
    anew = {name for name in shapes | others if shapes.get(name) != others.get(name)}
    for name in own.keys() - anew:
        own[name].copy_(weights[name])
    return [LAST_LAYER] if anew else []


def count_parameters(model: nn.Module) -> int:
    """Count the trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


def _build_features(config: TrainConfig, channels: int) -> nn.Sequential:
    layers = nn.Sequential()
    for number, width in enumerate(config.conv_channels, start=1):
        layers.add_module(f"conv{number}", _build_conv(config, number, channels, width))
        if config.norm == "batch":
            layers.add_module(f"norm{number}", nn.BatchNorm2d(width))
        for name, layer in _list_followers(config, number):
            layers.add_module(name, layer)
        channels = width
    if config.pool5_px is not None:
        layers.add_module("average5", nn.AdaptiveAvgPool2d(config.pool5_px))
    return layers


def _list_followers(config: TrainConfig, number: int) -> list[tuple[str, nn.Module]]:
    """List what follows a convolution, in the order of the config: activation, response norms, pool."""
    steps: dict[str, list[tuple[str, nn.Module]]] = {"activate": [], "normalise": [], "pool": []}
    steps["activate"].append((f"{config.activation}{number}", _ACTIVATIONS[config.activation]()))
    if config.norm in FORMS and number in NORMALISED_CONVS:
        form = response_form(
            config.norm, size=config.lrn_size, k=config.lrn_k, alpha=config.lrn_alpha, beta=config.lrn_beta
        )
        steps["normalise"].append((f"norm{number}", LocalResponseNorm(form, 2 if config.lrn_within_tower else 1)))
    if f"conv{number}" in config.map_norm_layers:
        form = ResponseForm(config.map_norm_size, config.map_norm_k, config.map_norm_alpha, config.map_norm_beta)
        steps["normalise"].append((f"mapnorm{number}", MapResponseNorm(form)))
    if number in POOLED_CONVS:
        steps["pool"].append((f"pool{number}", _build_pool(config)))
    order = {1: config.conv1_order, 2: config.conv2_order}.get(number, "activate_normalise_pool")
    return [layer for step in order.split("_") for layer in steps[step]]


def _build_conv(config: TrainConfig, number: int, channels: int, width: int) -> nn.Conv2d:
    kernel, stride = config.kernels[number - 1], config.conv1_stride if number == 1 else 1
    groups = config.groups if number in TOWER_CONVS else 1
    bias = config.norm != "batch"
    keeps_size = stride == 1 and kernel % 2 == 1 and (number > 1 or config.padding in {"same", "tf_same"})
    if keeps_size and groups == 1:
        return SmallMapConv2d(channels, width, kernel, bias=bias)
    if keeps_size or (number == 1 and config.padding == "same"):
        return nn.Conv2d(channels, width, kernel, stride, kernel // 2, groups=groups, bias=bias)
    if config.padding in {"tf_same", "ceil"}:
        return PaddedConv2d(channels, width, kernel, stride, rule=config.padding, groups=groups, bias=bias)
    around = 2 if config.padding == "pad_2" else 0
    return nn.Conv2d(channels, width, kernel, stride, around, bias=bias)


def _build_pool(config: TrainConfig) -> nn.Module:
    kernel = POOL_KERNELS[config.pooling]
    if config.padding == "tf_same":
        return SameMaxPool2d(kernel, 2)
    if config.padding == "same":
        return nn.MaxPool2d(kernel, 2, padding=kernel // 2 if kernel % 2 else 0, ceil_mode=kernel % 2 == 0)
    return nn.MaxPool2d(kernel, 2, ceil_mode=config.padding != "pad_2")


def _build_classifier(config: TrainConfig, num_features: int, num_classes: int) -> nn.Sequential:
    layers = nn.Sequential()
    dropout = Dropout2012 if config.dropout_form == "2012" else Dropout
    for number, width in enumerate(config.fc_units, start=6):
        if config.dropout_place == "before":
            layers.add_module(f"dropout{number}", dropout(config.dropout))
        layers.add_module(f"fc{number}", WideLinear(num_features, width))
        layers.add_module(f"{config.activation}{number}", _ACTIVATIONS[config.activation]())
        if config.dropout_place == "after":
            layers.add_module(f"dropout{number}", dropout(config.dropout))
        num_features = width
    layers.add_module("fc8", nn.Linear(num_features, num_classes))
    return layers
