"""Describes a network as a plain list of layers with all padding in numbers, for the formats built by hand.

The padding of `same`, `ceil` and the like depends on the size of the maps, which is known once the size of the image
is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import nn

from alexnet_core.errors import ExportUnsupported
from alexnet_core.network import layers
from alexnet_core.network.layers import Dropout2012, PaddedConv2d, SameMaxPool2d, ceil_padding, same_padding
from alexnet_core.network.model import AlexNet
from alexnet_core.network.normalisation import LocalResponseNorm, MapResponseNorm
from alexnet_core.network.response_forms import ResponseForm


@dataclass(frozen=True)
class Padding:
    """Pixels before the maps (top and left) and after them (bottom and right)."""

    before: int
    after: int


@dataclass(frozen=True)
class Convolution:
    """A convolution."""

    name: str
    module: nn.Conv2d
    kernel: int
    stride: int
    padding: Padding
    size_px: int  #: side of the maps that it reads


@dataclass(frozen=True)
class BatchNorm:
    """A batch norm with its running statistics."""

    name: str
    module: nn.BatchNorm2d


@dataclass(frozen=True)
class ResponseNorm:
    """A local response norm across maps."""

    name: str
    form: ResponseForm
    groups: int  #: parts of the maps that don't see each other
    channels: int
    size_px: int  #: side of the maps


@dataclass(frozen=True)
class MapNorm:
    """A local response norm within maps; alpha multiplies the mean of the squares."""

    name: str
    form: ResponseForm


@dataclass(frozen=True)
class Activation:
    """A function of each value."""

    name: str
    function: str  #: relu, tanh or sigmoid


@dataclass(frozen=True)
class MaxPool:
    """Max pooling; padding never has the highest value."""

    name: str
    kernel: int
    stride: int
    padding: Padding
    size_px: int  #: side of the maps that it reads


@dataclass(frozen=True)
class AveragePool:
    """Averages maps to a given side, over windows that overlap where the sides don't divide evenly."""

    name: str
    size_px: int  #: side of the maps that it reads
    out_px: int


@dataclass(frozen=True)
class Flatten:
    """Flattens maps, channel by channel, to one row of values."""

    name: str
    channels: int
    size_px: int


@dataclass(frozen=True)
class Dropout:
    """Does nothing except in training."""

    name: str
    rate: float


@dataclass(frozen=True)
class Scale:
    """Multiplies by a constant, as the dropout of 2012 does after training."""

    name: str
    factor: float


@dataclass(frozen=True)
class FullyConnected:
    """A fully connected layer."""

    name: str
    module: nn.Linear


Layer = (
    Convolution
    | BatchNorm
    | ResponseNorm
    | MapNorm
    | Activation
    | MaxPool
    | AveragePool
    | Flatten
    | Dropout
    | Scale
    | FullyConnected
)

_ACTIVATIONS: dict[type[nn.Module], str] = {nn.ReLU: "relu", nn.Tanh: "tanh", nn.Sigmoid: "sigmoid"}


def list_layers(model: AlexNet, image_px: int) -> list[Layer]:
    """List what the network computes in evaluation, in order.

    Raises:
        ExportUnsupported: it has a layer that is not known here.
    """
    layers: list[Layer] = []
    size_px, channels = image_px, 0
    for name, module in model.features.named_children():
        layer = _of_features(name, module, size_px, channels)
        size_px = _size_after(layer, size_px)
        channels = layer.module.out_channels if isinstance(layer, Convolution) else channels
        layers.append(layer)
    layers.append(Flatten("flatten", channels, size_px))
    layers += [_of_any(name, module) for name, module in model.classifier.named_children()]
    return layers


def _of_features(name: str, module: nn.Module, size_px: int, channels: int) -> Layer:
    match module:
        case nn.Conv2d():
            kernel, stride = int(module.kernel_size[0]), int(module.stride[0])
            return Convolution(name, module, kernel, stride, _conv_padding(module, size_px), size_px)
        case nn.BatchNorm2d():
            return BatchNorm(name, module)
        case LocalResponseNorm():
            return ResponseNorm(name, module.form, module.groups, channels, size_px)
        case MapResponseNorm():
            return MapNorm(name, module.form)
        case SameMaxPool2d():
            padding = Padding(*same_padding(size_px, module.kernel, module.stride))
            return MaxPool(name, module.kernel, module.stride, padding, size_px)
        case nn.MaxPool2d():
            kernel, stride = _side(module.kernel_size), _side(module.stride)
            return MaxPool(name, kernel, stride, _pool_padding(module, size_px), size_px)
        case nn.AdaptiveAvgPool2d():
            return AveragePool(name, size_px, _side(module.output_size))
    return _of_any(name, module)


def _of_any(name: str, module: nn.Module) -> Layer:
    match module:
        case nn.Linear():
            return FullyConnected(name, module)
        case layers.Dropout():
            return Dropout(name, module.rate)
        case Dropout2012():
            return Scale(name, 1 - module.rate)
    if type(module) not in _ACTIVATIONS:
        raise ExportUnsupported(
            f"layer {name} ({type(module).__name__}) can't be exported: use the checkpoint's own folder"
        )
    return Activation(name, _ACTIVATIONS[type(module)])


def _conv_padding(module: nn.Conv2d, size_px: int) -> Padding:
    if isinstance(module, PaddedConv2d):
        return Padding(*module.padding_of(size_px))
    around = _side(module.padding)
    return Padding(around, around)


def _pool_padding(module: nn.MaxPool2d, size_px: int) -> Padding:
    """Return the padding after the maps that the last window needs when sizes are rounded up."""
    kernel, stride, around = _side(module.kernel_size), _side(module.stride), _side(module.padding)
    if not module.ceil_mode:
        return Padding(around, around)
    _, after = ceil_padding(size_px + 2 * around, kernel, stride)
    return Padding(around, around + after)


def _side(value: object) -> int:
    first = value[0] if isinstance(value, tuple) else value
    assert isinstance(first, int)
    return first


def _size_after(layer: Layer, size_px: int) -> int:
    if isinstance(layer, AveragePool):
        return layer.out_px
    if isinstance(layer, Convolution | MaxPool):
        padded = size_px + layer.padding.before + layer.padding.after
        return math.floor((padded - layer.kernel) / layer.stride) + 1
    return size_px
