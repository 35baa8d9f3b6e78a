from __future__ import annotations

import pytest

from alexnet_core.config import DatasetFacts
from alexnet_core.recipes import get_recipe
from alexnet_core.training.plan import count_steps, count_training_images

FACTS = DatasetFacts(
    name="toys",
    num_classes=2,
    class_names=("a", "b"),
    image_px=32,
    channels=3,
    flip_safe=True,
    num_train=100,
    num_val=7,
)
QUICK = get_recipe("quick").config


@pytest.mark.parametrize(("validate_on", "images"), [("validation", 100), ("test", 107), ("none", 107)])
def test_what_is_not_held_back_is_trained_on(validate_on: str, images: int) -> None:
    config = QUICK.with_overrides({"validate_on": validate_on}) if validate_on != "validation" else QUICK
    assert count_training_images(config, FACTS) == images


def test_a_dataset_that_is_not_prepared_has_no_number() -> None:
    assert count_training_images(QUICK, FACTS.model_copy(update={"num_train": None})) is None


@pytest.mark.parametrize(
    ("norm", "images", "shares", "steps"),
    [
        ("none", 100, 1, 4),
        ("none", 96, 1, 3),
        ("none", 97, 1, 4),
        ("batch", 97, 1, 3),  # one image has no deviation
        ("batch", 98, 1, 4),
        ("batch", 98, 4, 3),
        ("batch", 1, 1, 1),
    ],
)
def test_a_last_batch_that_is_too_small_for_a_norm_is_left_out(norm: str, images: int, shares: int, steps: int) -> None:
    config = QUICK.model_copy(update={"norm": norm, "batch_size": 32})
    assert count_steps(config, images, shares) == steps
