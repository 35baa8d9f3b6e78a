"""The recipes: named, complete sets of hyper-parameters, and how they are combined with a dataset. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from alexnet_core.config import DatasetFacts, TrainConfig
from alexnet_core.errors import ConfigError, UnknownRecipe
from alexnet_core.network.geometry import describe
from alexnet_core.recipes.caffe import CAFFE
from alexnet_core.recipes.notes_cifar10 import NOTES_CIFAR10
from alexnet_core.recipes.paper import PAPER_2012, PAPER_2012_RUN
from alexnet_core.recipes.quick import QUICK
from alexnet_core.recipes.recipe import Recipe
from alexnet_core.recipes.small_images import SMALL_IMAGES
from alexnet_core.recipes.torchvision import TORCHVISION

_ALL = (NOTES_CIFAR10, PAPER_2012, PAPER_2012_RUN, CAFFE, TORCHVISION, SMALL_IMAGES, QUICK)
_RECIPES = {recipe.name: recipe for recipe in _ALL}
_QUICK_UP_TO_PX = 32

__all__ = ["Recipe", "default_recipe", "get_recipe", "list_recipes", "resolve", "resolve_to_json"]


def list_recipes() -> list[Recipe]:
    """Return all recipes."""
    return list(_RECIPES.values())


def get_recipe(name: str) -> Recipe:
    """Return the recipe of this name.

    Raises:
        UnknownRecipe: there is none.
    """
    try:
        return _RECIPES[name]
    except KeyError:
        raise UnknownRecipe(f"there is no recipe {name!r}: use one of {', '.join(_RECIPES)}", param="recipe") from None


def default_recipe(facts: DatasetFacts) -> Recipe:
    """Return the recipe for a job that names none: `quick` for small images, else `torchvision`."""
    return QUICK if facts.image_px <= _QUICK_UP_TO_PX else TORCHVISION


def resolve(recipe_name: str | None, overrides: Mapping[str, Any], facts: DatasetFacts) -> tuple[str, TrainConfig]:
    """Return the name of a job's recipe and its complete config.

    Mirroring, in training and in the views of a test, is off if the dataset's classes don't allow it, unless the
    overrides say otherwise. A recipe's own mean and std are used only for the dataset that they were computed on.

    Raises:
        UnknownRecipe: there is no such recipe.
        ConfigError: an override is wrong, or the images are too small for the network.
    """
    recipe = get_recipe(recipe_name) if recipe_name is not None else default_recipe(facts)
    changes: dict[str, Any] = {}
    if not facts.flip_safe:
        changes |= {"flip": False, "test_crops": 1}
    if recipe.fixed_statistics is not None and recipe.fixed_statistics != facts.name:
        changes |= {"mean": None, "std": None}
    config = recipe.config.with_overrides({**changes, **overrides})
    if config.colour_std and (config.channels or facts.channels) == 1:
        raise ConfigError(
            f"overrides.colour_std needs 3 channels, and {facts.name} is grey: leave it out, or set channels to 3",
            param="overrides.colour_std",
        )
    describe(config, facts.num_classes, config.channels or facts.channels)
    return recipe.name, config


def resolve_to_json(
    recipe_name: str | None, overrides: Mapping[str, Any], facts: DatasetFacts
) -> tuple[str, dict[str, Any]]:
    """Return what `resolve` does, with the config as it is stored."""
    name, config = resolve(recipe_name, overrides, facts)
    return name, config.model_dump(mode="json")
