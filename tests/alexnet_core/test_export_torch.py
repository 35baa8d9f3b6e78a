"""Programs of torch.export: they answer as the network does, for any number of images."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from alexnet_core.export.torch_export import write_torch_export

from .networks import CLASSES, NARROW, assert_same_answers, inputs_of, logits_of, make_checkpoint


@pytest.mark.parametrize("recipe", ["notes-cifar10", "paper-2012", "quick"])
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
