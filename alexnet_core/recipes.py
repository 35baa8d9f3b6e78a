"""The named, complete sets of hyper-parameters, and how a dataset meets them. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alexnet_core.config import DatasetFacts, TrainConfig
from alexnet_core.errors import UnknownRecipe
from alexnet_core.geometry import describe


@dataclass(frozen=True)
class Recipe:
    """A named config, where its numbers come from, and why they differ from the paper's."""

    name: str
    title: str
    description: str
    source: str
    config: TrainConfig
    fixed_statistics: str | None = None  #: the one dataset on which the config's mean and std hold


NOTES_CIFAR10 = Recipe(
    name="notes-cifar10",
    title="AlexNet on CIFAR-10, as in the reproduction notes",
    description="The paper's widths on 32 px images: conv1 11x11 stride 4, no LRN, one device; 21,622,154 parameters.",
    source=(
        "A Keras reproduction of Krizhevsky 2012 on CIFAR-10, number by number: TensorFlow's 'same' padding, "
        "U(-0.05, 0.05) convolution kernels, Glorot uniform dense layers, Nesterov with the "
        "learning rate inside the velocity, three "
        "learning rates over 300 epochs, flips and sub-pixel shifts filled with 0 after standardisation, the test set "
        "as validation set."
    ),
    config=TrainConfig(
        widths=(96, 256, 384, 384, 256),
        kernels=(11, 5, 3, 3, 3),
        conv1_stride=4,
        padding="tf_same",
        fc_widths=(4096, 4096),
        dropout=0.5,
        init="notes",
        image_px=32,
        channels=3,
        mean=(125.307, 122.95, 113.865),
        std=(62.9932, 62.0887, 66.7048),
        optimiser="keras_sgd",
        lr=0.01,
        momentum=0.9,
        nesterov=True,
        batch_size=64,
        epochs=300,
        schedule="step",
        lr_steps=((0, 0.01), (100, 0.001), (200, 0.0001)),
        flip=True,
        shift_px=4.0,
        validate_on="test",
    ),
    fixed_statistics="cifar10",
)

SMALL_IMAGES = Recipe(
    name="small-images",
    title="AlexNet for small images, for accuracy",
    description="The paper's order of layers with kernels made for images of about 32 px, and batch normalisation.",
    source=(
        "Krizhevsky 2012, but: conv1 5x5 stride 1 (11x11 stride 4 leaves 8x8 of a 32 px image and costs accuracy), "
        "conv2 3x3, batch normalisation for LRN (bears a higher learning rate), 1024 units in the hidden "
        "layers (an image has a fiftieth of the pixels), one cycle of the learning rate and label "
        "smoothing for the manual schedule."
    ),
    config=TrainConfig(
        widths=(64, 160, 256, 256, 256),
        kernels=(5, 3, 3, 3, 3),
        conv1_stride=1,
        norm="batch",
        fc_widths=(1024, 1024),
        dropout=0.5,
        init="he_normal",
        image_px=32,
        optimiser="sgd",
        lr=0.05,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        label_smoothing=0.1,
        batch_size=128,
        epochs=20,
        schedule="one_cycle",
        warmup_fraction=0.2,
        flip=True,
        shift_px=2.0,
    ),
)

QUICK = Recipe(
    name="quick",
    title="A small AlexNet for a CPU",
    description="Seconds to minutes on two cores: narrow layers, small kernels, batch normalisation, one cycle.",
    source=(
        "As small-images, but narrower (32-64-96-96-64, 256 units in the hidden layers) on 24 px images, with a little "
        "turning and zooming in place of larger crops: made to be quick without a GPU."
    ),
    config=TrainConfig(
        widths=(32, 64, 96, 96, 64),
        kernels=(3, 3, 3, 3, 3),
        conv1_stride=1,
        norm="batch",
        fc_widths=(256, 256),
        dropout=0.2,
        init="he_normal",
        image_px=24,
        optimiser="sgd",
        lr=0.05,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        label_smoothing=0.05,
        batch_size=64,
        epochs=15,
        schedule="one_cycle",
        warmup_fraction=0.2,
        flip=True,
        shift_px=1.5,
        rotate_deg=10.0,
        scale=0.1,
    ),
)

_RECIPES = {recipe.name: recipe for recipe in (NOTES_CIFAR10, SMALL_IMAGES, QUICK)}


def list_recipes() -> list[Recipe]:
    """Every recipe."""
    return list(_RECIPES.values())


def get_recipe(name: str) -> Recipe:
    """The recipe of this name.

    Raises:
        UnknownRecipe: there is none.
    """
    try:
        return _RECIPES[name]
    except KeyError:
        raise UnknownRecipe(f"there is no recipe {name!r}: use one of {', '.join(_RECIPES)}", param="recipe") from None


def default_recipe(facts: DatasetFacts) -> Recipe:
    """The recipe for whoever names none: `quick`, the only one so far that is made for a short wait."""
    return QUICK


def resolve(recipe_name: str | None, overrides: Mapping[str, Any], facts: DatasetFacts) -> tuple[str, TrainConfig]:
    """The name of the recipe and the complete config of a job.

    Mirroring is off where the dataset's classes don't allow it, unless the overrides say otherwise; a recipe's own mean
    and std hold only on the dataset that they were computed on.

    Raises:
        UnknownRecipe: there is no such recipe.
        ConfigError: an override is wrong, or the images are too small for the network.
    """
    recipe = get_recipe(recipe_name) if recipe_name is not None else default_recipe(facts)
    changes: dict[str, Any] = {}
    if recipe.config.flip and not facts.flip_safe:
        changes["flip"] = False
    if recipe.fixed_statistics is not None and recipe.fixed_statistics != facts.name:
        changes |= {"mean": None, "std": None}
    config = recipe.config.with_overrides({**changes, **overrides})
    describe(config, facts.num_classes, config.channels or facts.channels)
    return recipe.name, config
