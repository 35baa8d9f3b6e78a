"""The networks as they are built: sizes, initial weights, towers, dropout, and weights taken over."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from alexnet_core.config import TrainConfig
from alexnet_core.errors import CheckpointIncompatible, ConfigError
from alexnet_core.network import geometry
from alexnet_core.network.layers import Dropout2012
from alexnet_core.network.model import AlexNet, build_model, copy_weights, count_parameters
from alexnet_core.network.normalisation import LocalResponseNorm, MapResponseNorm
from alexnet_core.network.response_forms import ResponseForm
from alexnet_core.recipes import get_recipe, list_recipes
from tests.alexnet_core.networks import layer_of

SMALL = TrainConfig(
    widths=(8, 8, 12, 12, 8), kernels=(3, 3, 3, 3, 3), fc_widths=(16, 16), image_px=16, batch_size=8, epochs=1
)  # fmt: skip


def build(channels: int = 3, classes: int = 5, **overrides: Any) -> AlexNet:
    torch.manual_seed(0)
    return build_model(SMALL.with_overrides(overrides), classes, channels)


def shapes_of(model: AlexNet) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", [recipe.name for recipe in list_recipes()])
def test_every_recipe_builds_and_gives_a_logit_a_class(name: str) -> None:
    config = get_recipe(name).config
    channels = config.channels or 1
    model = build_model(config, 7, channels).eval()
    assert count_parameters(model) == geometry.count_parameters(config, 7, channels)
    assert shapes_of(model) == geometry.weight_shapes(config, 7, channels)
    with torch.inference_mode():
        logits = model(torch.zeros(2, channels, config.image_px, config.image_px))
    assert logits.shape == (2, 7)
    assert bool(torch.isfinite(logits).all())


def test_the_geometry_is_that_of_the_built_network_or_both_refuse() -> None:
    refused = 0
    paddings, poolings = ("same", "tf_same", "ceil", "valid", "pad_2"), ("overlapping", "plain")
    for padding, pooling, px, kernel, stride in itertools.product(
        paddings, poolings, (8, 13, 27, 32, 67), (3, 11), (1, 4)
    ):
        config = SMALL.with_overrides(
            {"padding": padding, "pooling": pooling, "image_px": px, "kernels": (kernel, 3, 3, 3, 3), "groups": 2}
            | {"conv1_stride": stride}
        )
        try:
            expected = geometry.count_parameters(config, 3, 1)
        except ConfigError:
            refused += 1
            with pytest.raises(RuntimeError):
                build_model(config, 3, 1)
            continue
        model = build_model(config, 3, 1)
        assert count_parameters(model) == expected, config
        assert shapes_of(model) == geometry.weight_shapes(config, 3, 1), config
    assert 0 < refused < 100


def test_a_ceil_padded_convolution_sees_zeros_after_the_last_pixel_only() -> None:
    features = build(padding="ceil", image_px=64, kernels=(5, 3, 3, 3, 3), conv1_stride=4).features
    conv = layer_of(features, "conv1", nn.Conv2d)
    x = torch.randn(2, 3, 64, 64)
    padded = torch.zeros(2, 3, 65, 65)
    padded[:, :, :64, :64] = x
    expected = torch.nn.functional.conv2d(padded, conv.weight, conv.bias, stride=4)
    assert conv(x).shape[2:] == (16, 16)
    torch.testing.assert_close(conv(x), expected)


def test_a_tower_does_not_see_the_other_ones_maps() -> None:
    features = build(groups=2).features
    x = torch.randn(1, 8, 8, 8, requires_grad=True)
    features.get_submodule("conv2")(x)[:, :4].sum().backward()
    assert x.grad is not None
    assert bool((x.grad[:, :4] != 0).any())
    assert bool((x.grad[:, 4:] == 0).all())
    assert layer_of(features, "conv3", nn.Conv2d).groups == 1


def test_the_width_multiplier_keeps_the_towers_even() -> None:
    config = SMALL.with_overrides({"groups": 2, "width_multiplier": 0.3})
    assert config.conv_channels == (2, 2, 4, 4, 2)
    assert config.fc_units == (4, 4)


@pytest.mark.parametrize(
    ("init", "deviations", "biased", "bias"),
    [
        ("paper", {"conv1": 0.01, "conv3": 0.01, "fc8": 0.01}, {"conv2", "conv4", "conv5", "fc6", "fc7"}, 1),
        ("paper_run", {"conv1": 0.01, "conv3": 0.03, "conv5": 0.03, "fc6": 0.01}, {"conv2", "fc6", "fc7"}, 1),
        ("caffe", {"conv1": 0.01, "fc6": 0.005, "fc7": 0.005, "fc8": 0.01}, {"conv2", "conv4", "conv5", "fc6"}, 0.1),
        ("uniform", {"conv3": 0.1 / 12**0.5, "fc7": (2 / 512) ** 0.5}, set(), 0),
        ("he_normal", {"conv3": (2 / (9 * 128)) ** 0.5, "fc7": (2 / 256) ** 0.5}, set(), 0),
        ("glorot", {"conv3": (2 / (9 * 320)) ** 0.5}, set(), 0),
    ],
)  # fmt: skip
def test_first_weights(init: str, deviations: dict[str, float], biased: set[str], bias: float) -> None:
    model = build(init=init, widths=(64, 128, 192, 192, 128), fc_widths=(256, 256), classes=300)
    layers = {name.rpartition(".")[2]: layer for name, layer in model.named_modules()}
    for name, deviation in deviations.items():
        assert float(layers[name].weight.detach().std()) == pytest.approx(deviation, rel=0.06), name
        assert abs(float(layers[name].weight.detach().mean())) < deviation / 10
    for name in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        if name in biased or name in {"conv1", "conv3", "fc8"}:
            assert bool((layers[name].bias == (bias if name in biased else 0)).all()), name


def test_dropout_of_2012_scales_afterwards() -> None:
    layer = Dropout2012(0.25)
    x = torch.ones(200, 200)
    dropped = layer(x)
    assert set(dropped.unique().tolist()) == {0.0, 1.0}
    assert float(dropped.mean()) == pytest.approx(0.75, abs=0.01)
    torch.testing.assert_close(layer.eval()(x), x * 0.75)


def test_dropout_before_a_layer_drops_its_input() -> None:
    names = [name for name, _ in build(dropout_place="before").classifier.named_children()]
    assert names == ["dropout6", "fc6", "relu6", "dropout7", "fc7", "relu7", "fc8"]


def test_a_layer_may_pool_before_it_activates() -> None:
    names = [name for name, _ in build(conv1_order="pool_activate_normalise", norm="lrn").features.named_children()]
    assert names[:8] == ["conv1", "pool1", "relu1", "norm1", "conv2", "relu2", "norm2", "pool2"]


@pytest.mark.parametrize("order", list(itertools.permutations(("activate", "normalise", "pool"))))
def test_activation_norms_and_pool_follow_in_any_order(order: tuple[str, ...]) -> None:
    name = "_".join(order)
    features = build(conv1_order=name, conv2_order=name, norm="lrn", map_norm_layers=["conv2"]).features
    names = {"activate": ["relu"], "normalise": ["norm", "mapnorm"], "pool": ["pool"]}
    expected = [f"{part}{n}" for n in (1, 2) for step in order for part in names[step] if (n, part) != (1, "mapnorm")]
    found = [name for name, _ in features.named_children() if not name.startswith("conv")]
    assert found[:7] == expected
    assert found[7:] == ["relu3", "relu4", "relu5", "pool5"]


def test_the_numbers_of_both_norms_are_options() -> None:
    features = build(
        norm="lrn_2012_code", lrn_size=9, lrn_k=3.0, lrn_alpha=0.9, lrn_beta=0.5, groups=2, lrn_within_tower=True,
        map_norm_layers=["conv1"], map_norm_size=7, map_norm_k=4.0, map_norm_alpha=0.2, map_norm_beta=0.25,
    ).features  # fmt: skip
    for name in ("norm1", "norm2"):
        norm = layer_of(features, name, LocalResponseNorm)
        assert norm.form.alpha == pytest.approx(0.1)
        assert replace(norm.form, alpha=0.1) == ResponseForm(9, 3.0, 0.1, 0.5)
        assert norm.groups == 2
    assert layer_of(features, "mapnorm1", MapResponseNorm).form == ResponseForm(7, 4.0, 0.2, 0.25)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"norm": "lrn", "lrn_size": 4}, "lrn_size is 4: 4 is even"),
        ({"map_norm_layers": ["conv1"], "map_norm_size": 2}, "map_norm_size is 2: 2 is even"),
        ({"lrn_size": 9}, "lrn_size has no effect if norm is none: it needs norm lrn or lrn_2012_code or lrn_caffe"),
        ({"norm": "batch", "lrn_alpha": 0.1}, "lrn_alpha has no effect if norm is batch"),
        ({"map_norm_size": 3}, "map_norm_size has no effect if map_norm_layers is empty: it needs map_norm_layers"),
        ({"norm": "lrn", "lrn_within_tower": True}, "lrn_within_tower needs groups 2"),
        ({"norm": "batch", "conv2_order": "pool_activate_normalise"}, "does not work with a batch norm"),
        ({"map_norm_layers": ["conv1", "conv1"]}, "names a layer twice"),
        ({"map_norm_layers": ["conv3"]}, "overrides.map_norm_layers"),
        ({"bias_lr": 0.1, "bias_lr_factor": 2.0}, "leave one of them out"),
    ],
)
def test_what_makes_no_sense_together_is_refused(overrides: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        SMALL.with_overrides(overrides)


@pytest.mark.parametrize(("activation", "limit"), [("tanh", 1.0), ("sigmoid", 1.0)])
def test_other_activations_bound_what_they_let_through(activation: str, limit: float) -> None:
    features = build(activation=activation).features
    assert float(features(torch.randn(4, 3, 16, 16) * 100).detach().abs().max()) <= limit
    assert isinstance(features.get_submodule(f"{activation}1"), torch.nn.Module)


def test_weights_taken_over_start_only_the_last_layer_anew_where_classes_differ() -> None:
    old, same, other = build(classes=5), build(classes=5, init="glorot"), build(classes=4)
    assert copy_weights(same, old.state_dict()) == []
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(same.eval()(x), old.eval()(x))
    fc8 = layer_of(other, "classifier.fc8", nn.Linear)
    before = fc8.weight.clone()
    assert copy_weights(other, old.state_dict()) == ["classifier.fc8"]
    torch.testing.assert_close(*(layer_of(model, "classifier.fc7", nn.Linear).weight for model in (other, old)))
    assert torch.equal(fc8.weight, before)


@pytest.mark.parametrize(
    ("channels", "difference"), [(3, {"widths": (8, 8, 12, 12, 16)}), (3, {"norm": "batch"}), (1, {})]
)
def test_weights_of_another_network_are_refused(channels: int, difference: dict[str, Any]) -> None:
    other = build(channels, **difference)
    with pytest.raises(CheckpointIncompatible, match="belong to another network"):
        copy_weights(build(), other.state_dict())


def test_average_pooling_brings_any_image_to_the_first_fully_connected_layer() -> None:
    for px in (16, 24, 40):
        model = build(image_px=px, pool5_px=2)
        assert layer_of(model, "classifier.fc6", nn.Linear).in_features == 8 * 4
    assert np.isfinite(build(pool5_px=2)(torch.randn(2, 3, 16, 16)).detach().numpy()).all()
