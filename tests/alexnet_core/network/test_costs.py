from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from alexnet_core.config import TrainConfig
from alexnet_core.errors import ConfigError
from alexnet_core.network import costs
from alexnet_core.network.convolution import MAX_PIXELS
from alexnet_core.network.costs import compute_costs, count_products
from alexnet_core.network.geometry import describe
from alexnet_core.network.model import build_model
from alexnet_core.precision import autocast
from alexnet_core.recipes import get_recipe, list_recipes

BATCH = 8
NARROW = {"width_multiplier": 0.25}  # the large networks as they are would take a minute
RECIPES = [recipe.name for recipe in list_recipes()]


def config_of(recipe: str, **overrides: object) -> tuple[TrainConfig, int]:
    config = get_recipe(recipe).config
    wanted = {"batch_size": BATCH, "precision": "fp32"} | overrides
    config = TrainConfig.model_validate({**config.model_dump(), **wanted})
    return config, config.channels or 3


def measure_kept_bytes(config: TrainConfig, channels: int) -> int:
    """What is kept of a batch for the backward pass, without the weights themselves."""
    model = build_model(config, 10, channels)
    own = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own:
            kept[place] = tensor  # held, so that its place is not used again
        return tensor

    images = torch.randn(config.batch_size, channels, config.image_px, config.image_px)
    images = images.contiguous(memory_format=torch.channels_last)
    kept[images.untyped_storage().data_ptr()] = images  # the loop holds them until the step's end
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        with autocast(torch.device("cpu"), config.precision):
            logits = model(images)
        F.cross_entropy(logits.float(), torch.zeros(config.batch_size, dtype=torch.int64))
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("recipe", "overrides"),
    [
        *((recipe, NARROW) for recipe in RECIPES),
        ("quick", {}),
        ("quick", {"norm": "batch", "activation": "tanh", "dropout": 0.0}),
        ("small-images", {"padding": "valid", "pool5_px": 2}),
    ],
)
def test_the_memory_is_what_torch_keeps(recipe: str, overrides: dict[str, object], precision: str) -> None:
    config, channels = config_of(recipe, **overrides, precision=precision)
    layers = describe(config, 10, channels)
    value = 4 if precision == "fp32" else 2
    written_out = sum(costs._count_written_out(config, layers, number, channels) for number in range(1, 6)) * value
    copies = 0 if precision == "fp32" else value * sum(layer.num_parameters for layer in layers)
    kept, _ = costs._count_kept_bytes(config, layers, channels, value)
    measured = measure_kept_bytes(config, channels)
    assert 0.9 * measured < BATCH * kept + written_out + copies < 1.15 * measured


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_multiplications_are_torchs(recipe: str) -> None:
    config, channels = config_of(recipe, **NARROW)
    model = build_model(config, 10, channels)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.zeros(1, channels, config.image_px, config.image_px))
    layers = describe(config, 10, channels)
    products = sum(count_products(config, layer) for layer in layers)
    assert 2 * products == counter.get_total_flops()
    trained = compute_costs(config, 10, channels).flops_per_image
    assert trained == 6 * products - 2 * count_products(config, layers[0])


def test_the_optimiser_counts() -> None:
    def weight_bytes(**overrides: object) -> int:
        config, channels = config_of("torchvision", **overrides)
        return compute_costs(config, 1000, channels).weight_bytes

    num_parameters = 61_100_840
    assert weight_bytes(momentum=0.0, nesterov=False) == 8 * num_parameters
    assert weight_bytes(momentum=0.9) == 12 * num_parameters
    assert weight_bytes(optimiser="adamw") == 16 * num_parameters
    assert weight_bytes(momentum=0.9, precision="bf16") == 14 * num_parameters


def test_activations_grow_with_the_batch_and_weights_do_not() -> None:
    small, large = (compute_costs(config_of("quick", batch_size=size)[0], 10, 1) for size in (8, 80))
    assert large.activation_bytes == 10 * small.activation_bytes
    assert large.weight_bytes == small.weight_bytes
    assert large.memory_bytes == large.activation_bytes + large.weight_bytes


def test_what_cannot_be_built_is_refused() -> None:
    config, _ = config_of("torchvision", image_px=16)
    with pytest.raises(ConfigError, match="image_px 16"):
        compute_costs(config, 10, 3)


def test_small_maps_are_those_of_the_convolution() -> None:
    assert costs._MAX_WRITTEN_OUT_PIXELS == MAX_PIXELS
