"""Exports with `torch.export`: a program that PyTorch runs without this package.

The exported network consists of plain torch layers that compute the same. Our own layers are written for training
speed, and torch.export would fix the number of images that they are given.
"""

from __future__ import annotations

import io
import json
from collections import OrderedDict
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.export.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Convolution,
    Dropout,
    Flatten,
    FullyConnected,
    Layer,
    MapNorm,
    MaxPool,
    Padding,
    ResponseNorm,
    Scale,
    list_layers,
)
from alexnet_core.layout import CLASSES, PREPROCESSING
from alexnet_core.network.checkpoint import Checkpoint
from alexnet_core.network.response_forms import ResponseForm

_ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "sigmoid": nn.Sigmoid}


def write_torch_export(checkpoint: Checkpoint, target: Path) -> None:
    """Write the network in evaluation mode, from standardised x_BCHW, float32 with any B, to logits_BK.

    The file also has `classes.json` and `preprocessing.json` as extra files.

    Raises:
        ExportUnsupported: a layer is not known here.
    """
    how = checkpoint.preprocessing
    network = build_plain_network(list_layers(Predictor.of(checkpoint).model, how.image_px))
    example_BCHW = torch.zeros(2, how.channels, how.image_px, how.image_px)  # of 1 image the 1 would be fixed
    with torch.no_grad():
        program = torch.export.export(network, (example_BCHW,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    extras = {CLASSES: json.dumps(checkpoint.class_names), PREPROCESSING: how.model_dump_json()}
    content = io.BytesIO()  # torch's own writer ends the process when it meets a full disk
    torch.export.save(program, content, extra_files=extras)
    target.write_bytes(content.getbuffer())


def build_plain_network(layers: list[Layer]) -> nn.Sequential:
    """Build the same function from torch's own layers, in evaluation mode, with copies of the weights."""
    return nn.Sequential(OrderedDict((layer.name, _plain(layer)) for layer in layers)).eval()


def _plain(layer: Layer) -> nn.Module:
    match layer:
        case Convolution(module=conv, kernel=kernel, stride=stride, padding=padding):
            sizes = (conv.in_channels, conv.out_channels, kernel, stride)
            plain = nn.Conv2d(*sizes, groups=conv.groups, bias=conv.bias is not None)
            return _padded(_filled(plain, conv), padding, 0.0)
        case BatchNorm(module=norm):
            return _filled(nn.BatchNorm2d(norm.num_features, eps=norm.eps), norm)
        case ResponseNorm(form=form, groups=groups):
            across = nn.LocalResponseNorm(form.size, form.alpha * form.size, form.beta, form.k)  # torch divides by size
            return across if groups == 1 else _InParts(across, groups)
        case MapNorm(form=form):
            return _MapNorm(form)
        case Activation(function=function):
            return _ACTIVATIONS[function]()
        case MaxPool(kernel=kernel, stride=stride, padding=padding):
            return _padded(nn.MaxPool2d(kernel, stride), padding, float("-inf"))
        case AveragePool(out_px=out_px):
            return nn.AdaptiveAvgPool2d(out_px)
        case Flatten():
            return nn.Flatten()
        case Dropout(rate=rate):
            return nn.Dropout(rate)
        case Scale(factor=factor):
            return _Scale(factor)
        case FullyConnected(module=linear):
            return _filled(nn.Linear(linear.in_features, linear.out_features), linear)


def _filled(plain: nn.Module, own: nn.Module) -> nn.Module:
    plain.load_state_dict({name: values.contiguous() for name, values in own.state_dict().items()})
    return plain


def _padded(layer: nn.Module, padding: Padding, value: float) -> nn.Module:
    return layer if padding == Padding(0, 0) else nn.Sequential(_Pad(padding, value), layer)


class _Pad(nn.Module):
    def __init__(self, padding: Padding, value: float) -> None:
        super().__init__()
        self.sides = (padding.before, padding.after, padding.before, padding.after)
        self.value = value

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return F.pad(x_BCHW, self.sides, value=self.value)


class _InParts(nn.Module):
    """Applies a layer to each part of the maps separately."""

    def __init__(self, layer: nn.Module, groups: int) -> None:
        super().__init__()
        self.layer, self.groups = layer, groups

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return torch.cat([self.layer(part) for part in x_BCHW.chunk(self.groups, dim=1)], dim=1)


class _MapNorm(nn.Module):
    def __init__(self, form: ResponseForm) -> None:
        super().__init__()
        self.form = form

    def forward(self, x_BCHW: Tensor) -> Tensor:
        mean_BCHW = F.avg_pool2d(x_BCHW.square(), self.form.size, stride=1, padding=self.form.size // 2)
        return x_BCHW / (self.form.k + self.form.alpha * mean_BCHW).pow(self.form.beta)


class _Scale(nn.Module):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor
