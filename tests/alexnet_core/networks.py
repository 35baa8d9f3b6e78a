"""Checkpoints of untrained networks whose every value matters: no bias is 0, no batch norm without effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.network.checkpoint import Checkpoint, weights_sha256
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.recipes import get_recipe

Layer = TypeVar("Layer", bound=nn.Module)

CLASSES = tuple("abcdefghij")
NARROW: dict[str, Any] = {"width_multiplier": 0.1}

#: arguments of make_checkpoint: every kind of layer and padding that no recipe has
VARIANTS: list[dict[str, Any]] = [
    {"recipe": "quick", "channels": 1},
    {"recipe": "quick", "pooling": "plain", "activation": "tanh", "image_px": 25},
    {"recipe": "quick", "groups": 2, "activation": "sigmoid", "padding": "valid", "image_px": 31},
    {"recipe": "quick", "padding": "ceil", "conv1_stride": 2, "image_px": 46, "dropout_form": "2012"},
    {"recipe": "quick", "padding": "valid", "pooling": "plain", "image_px": 27},
    {"recipe": "notes-cifar10", "activation": "tanh", "kernels": (8, 4, 2, 3, 4), "image_px": 45},
    {"recipe": "notes-cifar10", "norm": "batch", "groups": 2, "pool5_px": 1},
    {"recipe": "torchvision", "image_px": 160, "resize_px": 180},  # 4 px averaged to 6
    {"recipe": "torchvision", "image_px": 256, "resize_px": 280, "activation": "tanh"},  # 7 px averaged to 6
    {"recipe": "paper-2012-run", "activation": "tanh", "dropout_place": "before", "dropout": 0.3},
    {  # as cuda-convnet's best net for CIFAR-10 normalises
        "recipe": "notes-cifar10", "norm": "lrn_caffe", "lrn_size": 9, "lrn_alpha": 1e-3, "lrn_beta": 0.5,
        "conv1_order": "activate_pool_normalise", "lrn_within_tower": True, "groups": 2,
    },
    {
        "recipe": "notes-cifar10", "map_norm_layers": ("conv1", "conv2"), "map_norm_size": 3, "map_norm_k": 1.0,
        "map_norm_alpha": 0.5, "conv1_order": "pool_normalise_activate", "conv2_order": "normalise_activate_pool",
    },
]  # fmt: skip


def make_checkpoint(recipe: str, channels: int = 3, **overrides: Any) -> Checkpoint:
    """With activations and logits of about 1."""
    config = get_recipe(recipe).config.with_overrides({"init": "he_normal", **overrides})
    channels = config.channels or channels
    torch.manual_seed(7)
    model = build_model(config, len(CLASSES), channels)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif config.activation == "sigmoid":
                parameter.mul_(4)  # its slope is a quarter
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0, 0.5)
                module.running_var.uniform_(0.5, 2)
    weights = {name: values.detach() for name, values in model.state_dict().items()}
    how = Preprocessing(image_px=config.image_px, channels=channels, mean=(120.0,) * channels, std=(60.0,) * channels)
    return Checkpoint(Path("made"), config, CLASSES, how, {"weights_sha256": weights_sha256(weights)}, weights)


def layer_of(model: nn.Module, name: str, kind: type[Layer]) -> Layer:
    """A network's layer by its name, which is of this kind."""
    layer = model.get_submodule(name)
    assert isinstance(layer, kind), f"{name} is a {type(layer).__name__}"
    return layer


def inputs_of(checkpoint: Checkpoint, count: int = 4) -> Tensor:
    """Standardised images_BCHW of noise."""
    how = checkpoint.preprocessing
    return torch.randn(count, how.channels, how.image_px, how.image_px, generator=torch.Generator().manual_seed(3))


def logits_of(checkpoint: Checkpoint, x_BCHW: Tensor) -> Tensor:
    """What the network answers."""
    return Predictor.of(checkpoint).logits(x_BCHW)


def assert_same_answers(found_BK: Tensor, expected_BK: Tensor) -> None:
    """Within 1e-4, and the same five classes in the same order; the images are told apart."""
    assert expected_BK.std(dim=0).max() > 1e-2, "the answers depend on the image"
    torch.testing.assert_close(found_BK, expected_BK, rtol=0, atol=1e-4)
    assert torch.equal(found_BK.topk(5).indices, expected_BK.topk(5).indices)
