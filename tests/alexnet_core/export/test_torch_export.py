"""Programs of torch.export: they answer as the network does, for any number of images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.export.layers import list_layers
from alexnet_core.export.torch_export import build_plain_network, write_torch_export
from alexnet_core.recipes import list_recipes
from tests.alexnet_core.networks import (
    CLASSES,
    NARROW,
    VARIANTS,
    assert_same_answers,
    inputs_of,
    logits_of,
    make_checkpoint,
)


@pytest.mark.parametrize("recipe", ["notes-cifar10", "paper-2012", "paper-2012-run", "quick"])
def test_a_loaded_program_answers_as_the_network_for_any_number_of_images(recipe: str, tmp_path: Path) -> None:
    checkpoint = make_checkpoint(recipe, **NARROW)
    write_torch_export(checkpoint, tmp_path / "a.pt2")
    extras = {"classes.json": "", "preprocessing.json": ""}
    program = torch.export.load(tmp_path / "a.pt2", extra_files=extras).module()
    for count in (1, 2, 7):
        x_BCHW = inputs_of(checkpoint, count)
        with torch.inference_mode():
            found_BK = program(x_BCHW)
        expected_BK = logits_of(checkpoint, x_BCHW)
        torch.testing.assert_close(found_BK, expected_BK, rtol=0, atol=1e-4)
    assert_same_answers(found_BK, expected_BK)
    assert json.loads(extras["classes.json"]) == list(CLASSES)
    assert json.loads(extras["preprocessing.json"]) == checkpoint.preprocessing.model_dump(mode="json")


@pytest.mark.parametrize(
    "variant",
    [*VARIANTS, *({"recipe": recipe.name} for recipe in list_recipes())],
    ids=lambda variant: " ".join(str(value) for value in variant.values()),
)
def test_torchs_own_layers_answer_as_ours(variant: dict[str, Any]) -> None:
    checkpoint = make_checkpoint(**{**NARROW, **variant})
    network = build_plain_network(list_layers(Predictor.of(checkpoint).model, checkpoint.preprocessing.image_px))
    assert {type(module).__module__.split(".")[0] for module in network if len(list(module.parameters()))} == {"torch"}
    x_BCHW = inputs_of(checkpoint)
    with torch.inference_mode():
        assert_same_answers(network(x_BCHW), logits_of(checkpoint, x_BCHW))
