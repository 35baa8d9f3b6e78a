"""OpenVINO answers as torch does, for every recipe and every kind of layer."""

from __future__ import annotations

import gc
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from alexnet_core.inference.compiled_network import Compiler
from alexnet_core.inference.stored_network import StoredNetwork
from alexnet_core.network.checkpoint import Checkpoint
from alexnet_core.network.input_transform import InputTransform
from alexnet_core.recipes import list_recipes
from tests.alexnet_core.networks import NARROW, VARIANTS, assert_same_answers, inputs_of, logits_of, make_checkpoint


def store(checkpoint: Checkpoint) -> StoredNetwork:
    """What `read_network` would read of it."""
    return StoredNetwork(
        config=checkpoint.config,
        class_names=checkpoint.class_names,
        transform=InputTransform.model_validate(checkpoint.preprocessing.model_dump()),
        metadata=checkpoint.metadata,
        weights={name: values.numpy() for name, values in checkpoint.weights.items()},
    )


def assert_agrees(checkpoint: Checkpoint) -> None:
    network = Compiler(threads=1, precision="fp32").compile(store(checkpoint))
    for count in (1, 5):
        x_BCHW = inputs_of(checkpoint, count)
        expected_BK = logits_of(checkpoint, x_BCHW)
        found_BK = torch.from_numpy(network.logits(x_BCHW.numpy()))
        torch.testing.assert_close(found_BK, expected_BK, rtol=0, atol=1e-4)
    assert_same_answers(found_BK, expected_BK)


@pytest.mark.parametrize("recipe", [recipe.name for recipe in list_recipes()])
def test_every_recipe_answers_the_same(recipe: str) -> None:
    assert_agrees(make_checkpoint(recipe, **NARROW))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(str(value) for value in variant.values()))
def test_every_choice_of_layers_answers_the_same(variant: dict[str, Any]) -> None:
    assert_agrees(make_checkpoint(**{"width_multiplier": 0.25, **variant}))


@pytest.mark.parametrize(
    "overrides",
    [
        {"norm": "lrn", "lrn_alpha": 0.5, "lrn_within_tower": True, "groups": 2},
        {"map_norm_layers": ("conv1",), "map_norm_alpha": 2.0},
        {"padding": "pad_2", "pooling": "plain", "image_px": 33},
        {"padding": "ceil", "conv1_stride": 3, "image_px": 50, "pool5_px": 2},
    ],
    ids=str,
)
def test_norms_and_paddings_that_change_much_answer_the_same(overrides: dict[str, Any]) -> None:
    assert_agrees(make_checkpoint("quick", width_multiplier=0.25, **overrides))


def test_the_answers_stay_when_the_stored_weights_are_gone() -> None:
    checkpoint = make_checkpoint("quick", **NARROW)
    x_BCHW = inputs_of(checkpoint, 3)
    expected_BK = logits_of(checkpoint, x_BCHW)
    stored = store(checkpoint)
    stored = replace(stored, weights={name: values.copy() for name, values in stored.weights.items()})
    network = Compiler(threads=1, precision="fp32").compile(stored)
    for values in stored.weights.values():
        values.fill(0)
    gc.collect()
    garbage = [np.full(size, 7, np.float32) for values in stored.weights.values() for size in (values.size,) * 3]
    np.testing.assert_allclose(network.logits(x_BCHW.numpy()), expected_BK.numpy(), atol=1e-4)
    assert len(garbage) > 10


def test_the_folder_of_a_checkpoint_is_enough(tmp_path: Path) -> None:
    from alexnet_core.network.checkpoint import save_checkpoint

    checkpoint = make_checkpoint("quick", **NARROW)
    folder = save_checkpoint(replace(checkpoint, path=tmp_path / "epoch-00000001-e0")).path
    network = Compiler(threads=1, precision="fp32").load(folder)
    x_BCHW = inputs_of(checkpoint, 2)
    np.testing.assert_allclose(network.logits(x_BCHW.numpy()), logits_of(checkpoint, x_BCHW).numpy(), atol=1e-4)
    assert network.class_names == checkpoint.class_names
