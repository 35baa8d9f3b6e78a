"""The layers of a network by their names, and what each of them computes for an image.

B batch, C channels, H height, W width, D units
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from alexnet_core.network.geometry import LAST_LAYER
from alexnet_core.network.model import AlexNet

_LAST_CONVOLUTION = 5


class UnknownLayer(ValueError):
    """The network has no layer of that name."""


def list_layers(model: AlexNet) -> dict[str, nn.Module]:
    """Return the layers in the order in which they compute, by names such as `conv1`, `pool5` and `fc8`."""
    return dict(model.features.named_children()) | dict(model.classifier.named_children())


def get_layer(model: AlexNet, name: str) -> nn.Module:
    """Return a layer.

    Raises:
        UnknownLayer: the network has none of that name.
    """
    layers = list_layers(model)
    if name not in layers:
        raise UnknownLayer(f"the network has no layer {name[:40]!r}: its layers are {', '.join(layers)}")
    return layers[name]


def find_last_maps(model: AlexNet) -> nn.Module:
    """Return the last layer before the last pool: the activation or the normalisation after the fifth convolution."""
    last = list_layers(model)[f"conv{_LAST_CONVOLUTION}"]
    for name, layer in model.features.named_children():
        if name.endswith(str(_LAST_CONVOLUTION)):
            if name.startswith(("pool", "average")):
                break
            last = layer
    return last


def count_hidden_units(model: AlexNet) -> int:
    """Count the units of the last hidden layer."""
    last = model.get_submodule(LAST_LAYER)
    assert isinstance(last, nn.Linear)
    return last.in_features


@torch.inference_mode()
def compute_layer(model: AlexNet, x_BCHW: Tensor, name: str) -> Tensor:
    """Return what a layer computes, maps_BCHW or units_BD, float32 on the CPU.

    Raises:
        UnknownLayer: the network has none of that name.
    """
    found: list[Tensor] = []
    # The next layer may compute in place, so the values are copied.
    handle = get_layer(model, name).register_forward_hook(lambda *seen: found.append(seen[2].float().cpu().clone()))
    try:
        model(x_BCHW)
    finally:
        handle.remove()
    return found[0]


@contextmanager
def last_hidden_layer(model: AlexNet) -> Iterator[list[Tensor]]:
    """Note what goes into the last layer: units_BD for each batch that the model computes within the block.

    It is the last hidden layer after its activation, as predictions use it.
    """
    found: list[Tensor] = []
    layer = model.get_submodule(LAST_LAYER)
    handle = layer.register_forward_pre_hook(lambda *seen: found.append(seen[1][0].detach().float().cpu().clone()))
    try:
        yield found
    finally:
        handle.remove()
