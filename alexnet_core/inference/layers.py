"""Lists the layers of a network from its config alone, with all padding in numbers. Torch-free.

This is what `network.model.build_model` builds; a test compares the answers of both for every recipe and variant.
"""

from __future__ import annotations

from dataclasses import dataclass

from alexnet_core.config import TrainConfig
from alexnet_core.network.geometry import (
    NORMALISED_CONVS,
    POOL_KERNELS,
    POOLED_CONVS,
    TOWER_CONVS,
    conv_size,
    pool_size,
)
from alexnet_core.network.response_forms import FORMS, ResponseForm, response_form


@dataclass(frozen=True)
class Window:
    """A square window that moves over maps, and the zeros around them."""

    kernel: int
    stride: int
    before: int  #: pixels added above and to the left
    after: int  #: pixels added below and to the right


@dataclass(frozen=True)
class Convolution:
    """A convolution; `features.NAME.weight` and, unless a batch norm follows, `features.NAME.bias`."""

    name: str
    window: Window
    groups: int
    has_bias: bool


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm with its running statistics."""

    name: str


@dataclass(frozen=True)
class ResponseNorm:
    """A local response norm across maps, or across each half of them."""

    form: ResponseForm
    parts: int
    channels: int
    size_px: int


@dataclass(frozen=True)
class MapNorm:
    """A local response norm within maps."""

    form: ResponseForm


@dataclass(frozen=True)
class Activation:
    """A function of each value: `relu`, `tanh` or `sigmoid`."""

    function: str


@dataclass(frozen=True)
class MaxPool:
    """Max pooling; padding never has the highest value."""

    window: Window


@dataclass(frozen=True)
class AveragePool:
    """Averages maps to a given side, over windows that overlap where the sides don't divide evenly."""

    size_px: int
    out_px: int


@dataclass(frozen=True)
class Flatten:
    """Flattens maps, channel by channel, to one row of values."""


@dataclass(frozen=True)
class Scale:
    """Multiplies by a constant, as the dropout of 2012 does after training."""

    factor: float


@dataclass(frozen=True)
class FullyConnected:
    """A fully connected layer; `classifier.NAME.weight` and `classifier.NAME.bias`."""

    name: str


Layer = (
    Convolution
    | BatchNorm
    | ResponseNorm
    | MapNorm
    | Activation
    | MaxPool
    | AveragePool
    | Flatten
    | Scale
    | FullyConnected
)


def list_layers(config: TrainConfig) -> list[Layer]:
    """List what the network computes in evaluation, in order."""
    layers: list[Layer] = []
    size_px = config.image_px
    for number, width in enumerate(config.conv_channels, start=1):
        window = _conv_window(config, number, size_px)
        groups = config.groups if number in TOWER_CONVS else 1
        layers.append(Convolution(f"conv{number}", window, groups, has_bias=config.norm != "batch"))
        size_px = conv_size(config, number, size_px)
        if config.norm == "batch":
            layers.append(BatchNorm(f"norm{number}"))
        layers += _list_followers(config, number, width, size_px)
        size_px = pool_size(config, size_px) if number in POOLED_CONVS else size_px
    if config.pool5_px is not None:
        layers.append(AveragePool(size_px, config.pool5_px))
    return [*layers, Flatten(), *_list_classifier(config)]


def _list_followers(config: TrainConfig, number: int, channels: int, size_px: int) -> list[Layer]:
    """List what follows a convolution, in the order of the config: activation, response norms, pool."""
    order = {1: config.conv1_order, 2: config.conv2_order}.get(number, "activate_normalise_pool")
    layers: list[Layer] = []
    for step in order.split("_"):
        match step:
            case "activate":
                layers.append(Activation(config.activation))
            case "normalise":
                layers += _list_norms(config, number, channels, size_px)
            case "pool" if number in POOLED_CONVS:
                layers.append(MaxPool(_pool_window(config, size_px)))
                size_px = pool_size(config, size_px)
    return layers


def _list_norms(config: TrainConfig, number: int, channels: int, size_px: int) -> list[Layer]:
    layers: list[Layer] = []
    if config.norm in FORMS and number in NORMALISED_CONVS:
        form = response_form(
            config.norm, size=config.lrn_size, k=config.lrn_k, alpha=config.lrn_alpha, beta=config.lrn_beta
        )
        layers.append(ResponseNorm(form, 2 if config.lrn_within_tower else 1, channels, size_px))
    if f"conv{number}" in config.map_norm_layers:
        form = ResponseForm(config.map_norm_size, config.map_norm_k, config.map_norm_alpha, config.map_norm_beta)
        layers.append(MapNorm(form))
    return layers


def _list_classifier(config: TrainConfig) -> list[Layer]:
    scale: list[Layer] = [Scale(1 - config.dropout)] if config.dropout_form == "2012" else []
    layers: list[Layer] = []
    for number in range(6, 6 + len(config.fc_units)):
        layers += scale if config.dropout_place == "before" else []
        layers += [FullyConnected(f"fc{number}"), Activation(config.activation)]
        layers += scale if config.dropout_place == "after" else []
    return [*layers, FullyConnected(f"fc{6 + len(config.fc_units)}")]


def _conv_window(config: TrainConfig, number: int, size_px: int) -> Window:
    kernel, stride = config.kernels[number - 1], config.conv1_stride if number == 1 else 1
    out_px = conv_size(config, number, size_px)
    if number > 1 or config.padding == "tf_same":
        missing = _missing(kernel, stride, size_px, out_px)
        return Window(kernel, stride, missing // 2, missing - missing // 2)
    if config.padding == "ceil":
        return Window(kernel, stride, 0, _missing(kernel, stride, size_px, out_px))
    around = {"same": kernel // 2, "pad_2": 2}.get(config.padding, 0)
    return Window(kernel, stride, around, around)


def _pool_window(config: TrainConfig, size_px: int) -> Window:
    kernel, stride = POOL_KERNELS[config.pooling], 2
    missing = _missing(kernel, stride, size_px, pool_size(config, size_px))
    if config.padding == "tf_same":
        before = missing // 2
    else:
        before = kernel // 2 if config.padding == "same" and kernel % 2 else 0
    return Window(kernel, stride, before, max(0, missing - before))


def _missing(kernel: int, stride: int, size_px: int, out_px: int) -> int:
    """Return the pixels that the windows reach beyond the map. An odd one goes after it, as in TensorFlow."""
    return max(0, (out_px - 1) * stride + kernel - size_px)
