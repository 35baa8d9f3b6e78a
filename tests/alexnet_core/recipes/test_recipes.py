"""Recipes, configurations, geometry, errors: what is told without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from alexnet_core import errors
from alexnet_core.config import TrainConfig
from alexnet_core.data.published.builtin import BUILTINS
from alexnet_core.errors import ConfigError, CoreError, UnknownRecipe
from alexnet_core.network.geometry import count_parameters, describe
from alexnet_core.recipes import get_recipe, list_recipes, resolve

DIGITS, FASHION = BUILTINS["digits"].facts, BUILTINS["fashion-mnist"].facts
NAMES = [recipe.name for recipe in list_recipes()]


DESCRIPTION = [
    "config",
    "errors",
    "network.geometry",
    "recipes",
    "data.pack",
    "data.images",
    "data.published.builtin",
    "commands.prepare",
    "commands.datasets",
]


def test_the_description_of_a_run_does_not_load_torch() -> None:
    """In one process: the first module that loads it is named."""
    code = f"""
import importlib, sys
for name in {DESCRIPTION}:
    importlib.import_module(f"alexnet_core.{{name}}")
    assert not {{"torch", "sklearn"}} & sys.modules.keys(), name
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_notes_network_has_its_parameters_and_sizes() -> None:
    config = get_recipe("notes-cifar10").config
    layers = {layer.name: layer for layer in describe(config, 10, 3)}
    assert count_parameters(config, 10, 3) == 21_622_154
    assert [layers[f"conv{n}"].num_parameters for n in range(1, 6)] == [34_944, 614_656, 885_120, 1_327_488, 884_992]
    assert [layers[f"fc{n}"].num_parameters for n in (6, 7, 8)] == [1_052_672, 16_781_312, 40_970]
    assert [layers[f"pool{n}"].size_px for n in (1, 2, 5)] == [4, 2, 1]


@pytest.mark.parametrize(
    ("name", "num_parameters"),
    [("paper-2012", 60_965_224), ("paper-2012-run", 60_965_224), ("caffe", 60_965_224), ("torchvision", 61_100_840)],
)
def test_the_published_networks_have_their_parameters(name: str, num_parameters: int) -> None:
    config = get_recipe(name).config
    sizes = {layer.name: layer.size_px for layer in describe(config, 1000, 3)}
    assert count_parameters(config, 1000, 3) == num_parameters
    assert (sizes["conv1"], sizes["pool1"], sizes["pool2"], sizes["pool5"]) == (55, 27, 13, 6)


def test_large_images_get_another_recipe() -> None:
    facts = DIGITS.model_copy(update={"image_px": 33})
    assert [resolve(None, {}, each)[0] for each in (DIGITS, FASHION, facts)] == ["quick", "quick", "torchvision"]


@pytest.mark.parametrize("name", NAMES)
def test_a_config_survives_json(name: str) -> None:
    config = get_recipe(name).config
    assert TrainConfig.model_validate(json.loads(config.model_dump_json())) == config
    assert TrainConfig.model_validate_json(config.model_dump_json()) == config


@pytest.mark.parametrize(
    "overrides",
    [
        {"lr": 100.0}, {"lr": float("nan")}, {"lr": 0}, {"epochs": "3"}, {"epochs": 0}, {"epochs": 5000},
        {"batch_size": True}, {"image_px": 4}, {"channels": 2}, {"widths": [1, 2]}, {"schedule": "plate"},
        {"no_such_field": 1}, {"dropout": 1.0}, {"lr_steps": [[0, 0]]},
    ],
)  # fmt: skip
def test_a_wrong_override_is_refused_by_name(overrides: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve("quick", overrides, DIGITS)
    name = next(iter(overrides))
    assert caught.value.param is not None
    assert caught.value.param.startswith(f"overrides.{name}")
    assert name in str(caught.value)


def test_colours_of_grey_images_are_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="needs 3 channels, and digits is grey") as caught:
        resolve("quick", {"colour_std": 0.1}, DIGITS)
    assert caught.value.param == "overrides.colour_std"
    _, config = resolve("quick", {"colour_std": 0.1, "channels": 3}, DIGITS)
    assert config.colour_std == 0.1


@pytest.mark.parametrize("name", ["torchvision", "caffe", "paper-2012-run", "notes-cifar10"])
def test_a_learning_rate_that_a_list_of_rates_overrules_is_refused(name: str) -> None:
    config = get_recipe(name).config
    with pytest.raises(ConfigError, match="has no effect if schedule is multistep") as caught:
        config.with_overrides({"lr": 0.001})
    assert caught.value.param == "overrides.lr"
    assert config.with_overrides({"lr": 0.001, "schedule": "constant"}).lr == 0.001
    assert config.with_overrides({"lr": 0.001, "lr_steps": [[9, 0.0001]]}).lr == 0.001
    assert config.with_overrides(config.model_dump()) == config


def test_every_field_is_described() -> None:
    properties = TrainConfig.model_json_schema()["properties"]
    assert [name for name, field in properties.items() if not field.get("description")] == []


def test_flips_are_off_where_they_change_the_class_unless_asked_for() -> None:
    assert resolve("quick", {}, DIGITS)[1].flip is False
    assert resolve("quick", {"flip": True}, DIGITS)[1].flip is True
    assert resolve("quick", {}, FASHION)[1].flip is True


def test_no_mirror_images_are_tested_where_they_change_the_class_unless_asked_for() -> None:
    assert resolve("paper-2012", {}, DIGITS)[1].test_crops == 1
    assert resolve("paper-2012", {"test_crops": 10}, DIGITS)[1].test_crops == 10
    assert resolve("paper-2012", {}, FASHION)[1].test_crops == 10


def test_statistics_hold_only_on_the_dataset_that_they_are_of() -> None:
    cifar10 = FASHION.model_copy(update={"name": "cifar10", "channels": 3})
    assert resolve("notes-cifar10", {}, cifar10)[1].mean == (125.307, 122.95, 113.865)
    assert resolve("notes-cifar10", {}, FASHION)[1].mean is None


def test_the_default_recipe_is_quick_and_an_unknown_one_is_refused() -> None:
    assert resolve(None, {"epochs": 3}, DIGITS)[0] == "quick"
    assert resolve(None, {"epochs": 3}, DIGITS)[1].epochs == 3
    with pytest.raises(UnknownRecipe):
        resolve("no-such-recipe", {}, DIGITS)


def test_every_error_has_a_code_of_its_own_and_a_message() -> None:
    classes = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, CoreError)]
    assert len({c.code for c in classes}) == len(classes)
    assert all(str(c()) for c in classes)
