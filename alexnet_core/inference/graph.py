"""Builds a network as a graph of OpenVINO's from its config and weights.

B batch, C channels, H height, W width, K classes
"""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray
from openvino import opset13 as ops

from alexnet_core.errors import ExportUnsupported
from alexnet_core.inference.averages import average_shares
from alexnet_core.inference.layers import (
    Activation,
    AveragePool,
    BatchNorm,
    Convolution,
    Flatten,
    FullyConnected,
    Layer,
    MapNorm,
    MaxPool,
    ResponseNorm,
    Scale,
    Window,
    list_layers,
)
from alexnet_core.inference.stored_network import StoredNetwork

_EPSILON = 1e-5  # of torch's batch norm
_FUNCTIONS = {"relu": ops.relu, "tanh": ops.tanh, "sigmoid": ops.sigmoid}


def build_graph(network: StoredNetwork) -> ov.Model:
    """Build the network from input_BCHW, standardised float32 with any B, to logits_BK.

    Raises:
        ExportUnsupported: OpenVINO has no such layer.
    """
    side, channels = network.transform.image_px, network.transform.channels
    images = ops.parameter([-1, channels, side, side], np.float32, name="input")
    node = images
    weights = network.weights
    if network.mapping is None:  # they may go; numpy lets other threads run while it copies, and OpenVINO does not
        weights = {name: values.copy() for name, values in weights.items()}
    for layer in list_layers(network.config):
        node = _add(node, layer, weights)
    return ov.Model([ops.result(node)], [images], "alexnet")


def _add(node: Any, layer: Layer, weights: dict[str, NDArray[np.float32]]) -> Any:
    match layer:
        case Convolution(name, window, groups, has_bias):
            node = _convolve(node, weights[f"features.{name}.weight"], window, groups)
            return ops.add(node, _maps(weights[f"features.{name}.bias"])) if has_bias else node
        case BatchNorm(name):
            scale, shift, mean, variance = (
                _constant(weights[f"features.{name}.{part}"])
                for part in ("weight", "bias", "running_mean", "running_var")
            )
            return ops.batch_norm_inference(node, scale, shift, mean, variance, _EPSILON)
        case ResponseNorm():
            return _normalise(node, layer)
        case MapNorm():
            return _normalise_maps(node, layer)
        case Activation(function):
            return _FUNCTIONS[function](node)
        case MaxPool(window):
            return ops.max_pool(
                node,
                strides=[window.stride] * 2,
                dilations=[1, 1],
                pads_begin=[window.before] * 2,
                pads_end=[window.after] * 2,
                kernel_shape=[window.kernel] * 2,
            ).output(0)
        case AveragePool(size_px, out_px):
            if size_px == out_px:
                return node
            shares = average_shares(size_px, out_px)
            over_columns = ops.matmul(node, _constant(shares), False, True)
            return ops.matmul(_constant(shares), over_columns, False, False)
        case Flatten():
            return ops.reshape(node, np.array([0, -1]), special_zero=True)
        case Scale(factor):
            return ops.multiply(node, np.float32(factor))
        case FullyConnected(name):
            product = ops.matmul(node, _constant(weights[f"classifier.{name}.weight"]), False, True)
            return ops.add(product, _constant(weights[f"classifier.{name}.bias"]))
    raise ExportUnsupported(f"layer {layer} is not known to OpenVINO's graph")


def _convolve(node: Any, kernel_OCKK: NDArray[np.float32], window: Window, groups: int) -> Any:
    how = {
        "strides": [window.stride] * 2,
        "pads_begin": [window.before] * 2,
        "pads_end": [window.after] * 2,
        "dilations": [1, 1],
    }
    if groups == 1:
        return ops.convolution(node, _constant(kernel_OCKK), **how)
    outputs, *rest = kernel_OCKK.shape
    return ops.group_convolution(node, _constant(kernel_OCKK.reshape(groups, outputs // groups, *rest)), **how)


def _normalise(node: Any, layer: ResponseNorm) -> Any:
    """Add a norm across maps. Parts that must not affect each other are turned into separate images for it."""
    form, side = layer.form, layer.size_px
    if form.size % 2 == 0:
        raise ExportUnsupported(f"a norm across {form.size} maps: OpenVINO's is across an odd number of them")
    if layer.parts > 1:
        node = ops.reshape(node, np.array([-1, layer.channels // layer.parts, side, side]), special_zero=False)
    # OpenVINO divides alpha by the size
    node = ops.lrn(node, np.array([1]), alpha=form.alpha * form.size, beta=form.beta, bias=form.k, size=form.size)
    if layer.parts > 1:
        node = ops.reshape(node, np.array([-1, layer.channels, side, side]), special_zero=False)
    return node


def _normalise_maps(node: Any, layer: MapNorm) -> Any:
    """Add a norm within maps: divide by (k + alpha * average of the squares)^beta; values outside count as 0."""
    form, around = layer.form, [layer.form.size // 2] * 2
    means = ops.avg_pool(ops.multiply(node, node), [1, 1], around, around, [form.size] * 2, exclude_pad=False)
    base = ops.add(ops.multiply(means, np.float32(form.alpha)), np.float32(form.k))
    return ops.divide(node, ops.power(base, np.float32(form.beta)))


def _maps(values_C: NDArray[np.float32]) -> Any:
    return _constant(values_C.reshape(1, -1, 1, 1))


def _constant(values: NDArray[np.float32]) -> Any:
    return ops.constant(values, shared_memory=True)  # which keeps the array
