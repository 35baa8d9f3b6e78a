"""Exports to Keras 3: a `.weights.h5` file for `model.load_weights()`, with the Python code of its model.

The file has one group for each layer with weights, named after the layer's class and numbered: `layers/conv2d_1/vars/0`
is the second convolution's kernel. Keras' images are channels-last: kernels go from OIHW to HWIO, and the inputs of the
first fully connected layer from channel-row-column to row-column-channel order.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alexnet_core.errors import ExportUnsupported
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
from alexnet_core.network.checkpoint import Checkpoint
from alexnet_core.network.layers import same_padding

SUFFIX = ".weights.h5"  #: Keras loads weights from no other
_ELSE = "use onnx or torch_export"
Array = NDArray[np.float32]


def write_keras(checkpoint: Checkpoint, target: Path) -> None:
    """Write the weights, with the code from `keras_source` as the file's attribute `model_source`.

    Raises:
        ExportUnsupported: Keras has no layers of its own that compute the same.
    """
    import h5py

    layers = list_layers(Predictor.of(checkpoint).model, checkpoint.preprocessing.image_px)
    source = keras_source(layers, checkpoint.preprocessing.channels, checkpoint.preprocessing.image_px)
    counts: dict[str, int] = {}
    content = io.BytesIO()  # where a write fails, the HDF5 library does not let go of its file
    with h5py.File(content, "w") as file:
        file.attrs["model_source"] = source
        for kind, variables in _list_variables(layers):
            name = f"{kind}_{counts[kind]}" if kind in counts else kind
            counts[kind] = counts.get(kind, 0) + 1
            for number, values in enumerate(variables):
                file[f"layers/{name}/vars/{number}"] = values
    target.write_bytes(content.getbuffer())


def keras_source(layers: Sequence[Layer], channels: int, image_px: int) -> str:
    """Return Python code for the Keras 3 model `model`.

    The model maps standardised images (B, H, W, C) to probabilities.

    Raises:
        ExportUnsupported: Keras has no layers of its own that compute the same.
    """
    lines = [f"layers.Input(({image_px}, {image_px}, {channels})),"]
    above_zero = False  # whether every value is 0 or more, so that padding with zeros never wins in a max pool
    for layer in layers:
        lines += _layer_source(layer, above_zero)
        if isinstance(layer, Activation):
            above_zero = layer.function in {"relu", "sigmoid"}
        elif not isinstance(layer, MaxPool | AveragePool | Dropout | Scale):
            above_zero = False
    lines.append('layers.Activation("softmax"),')
    body = "\n".join(f"    {line}" for line in lines)
    return f"import keras\nfrom keras import layers\n\nmodel = keras.Sequential([\n{body}\n])\n"


def _list_variables(layers: Sequence[Layer]) -> list[tuple[str, list[Array]]]:
    """List the kind and variables of each layer that has any, in Keras' order."""
    found: list[tuple[str, list[Array]]] = []
    flattened: Flatten | None = None
    for layer in layers:
        match layer:
            case Convolution(module=conv):
                bias = [] if conv.bias is None else [_array(conv.bias)]
                found.append(("conv2d", [_array(conv.weight.permute(2, 3, 1, 0)), *bias]))
            case BatchNorm(module=norm):
                assert norm.running_mean is not None
                assert norm.running_var is not None
                parts = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
                found.append(("batch_normalization", [_array(part) for part in parts]))
            case Flatten():
                flattened = layer
            case FullyConnected(module=linear):
                found.append(("dense", [_matrix(linear.weight, flattened), _array(linear.bias)]))
                flattened = None
    return found


def _layer_source(layer: Layer, above_zero: bool) -> list[str]:
    match layer:
        case Convolution(name, module, kernel, stride, padding, size_px):
            if module.groups != 1:
                raise ExportUnsupported(
                    f"{name} has {module.groups} groups, which the export to Keras does not support: {_ELSE}"
                )
            same, lines = _pad(padding, size_px, kernel, stride)
            bias = "" if module.bias is not None else ", use_bias=False"
            call = f"layers.Conv2D({module.out_channels}, {kernel}, strides={stride}, padding={same!r}{bias})"
            return [*lines, f"{call},"]
        case MaxPool(name, kernel, stride, padding, size_px):
            same, lines = _pad(padding, size_px, kernel, stride)
            if lines and not above_zero:
                raise ExportUnsupported(
                    f"{name} has padding for which Keras has no layer, unless all its input is 0 or more "
                    f"(relu, sigmoid): {_ELSE}"
                )
            return [*lines, f"layers.MaxPooling2D({kernel}, strides={stride}, padding={same!r}),"]
        case BatchNorm(module=norm):
            return [f"layers.BatchNormalization(epsilon={norm.eps}, momentum={1 - (norm.momentum or 0):g}),"]
        case Activation(function=function):
            return [f"layers.Activation({function!r}),"]
        case AveragePool(name, size_px, out_px):
            if size_px % out_px:
                raise ExportUnsupported(f"{name} averages {size_px} to {out_px}, with windows that overlap: {_ELSE}")
            return [f"layers.AveragePooling2D({size_px // out_px}),"] if size_px != out_px else []
        case Flatten():
            return ["layers.Flatten(),"]
        case Dropout(rate=rate):
            return [f"layers.Dropout({rate}),"]
        case Scale(factor=factor):
            return [f"layers.Rescaling({factor}),"]
        case FullyConnected(module=linear):
            return [f"layers.Dense({linear.out_features}),"]
        case ResponseNorm(name) | MapNorm(name):
            raise ExportUnsupported(f"{name} is a local response norm, which Keras does not have: {_ELSE}")


def _pad(padding: Padding, size_px: int, kernel: int, stride: int) -> tuple[str, list[str]]:
    """Return Keras' name for a padding. Where Keras has none, also return the layer that pads before."""
    if padding == Padding(0, 0):
        return "valid", []
    if padding == Padding(*same_padding(size_px, kernel, stride)):
        return "same", []
    sides = (padding.before, padding.after)
    return "valid", [f"layers.ZeroPadding2D(({sides}, {sides})),"]


def _matrix(weight: Tensor, flattened: Flatten | None) -> Array:
    """Return the matrix as (in, out); `flattened` gives the shape of the maps that the inputs were before."""
    if flattened is not None:
        side = flattened.size_px
        weight = weight.reshape(-1, flattened.channels, side, side).permute(0, 2, 3, 1).flatten(1)
    return _array(weight.T)


def _array(tensor: Tensor) -> Array:
    return np.ascontiguousarray(tensor.detach().cpu().numpy(), dtype=np.float32)
