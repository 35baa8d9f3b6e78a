"""The layers by name, and what they compute."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.insight.named_layers import (
    UnknownLayer,
    compute_layer,
    find_last_maps,
    last_hidden_layer,
    list_layers,
)
from tests.alexnet_core.networks import NARROW, VARIANTS, inputs_of, layer_of, make_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


def make_predictor(recipe: str = "quick", **overrides: Any) -> tuple[Predictor, torch.Tensor]:
    checkpoint = make_checkpoint(recipe, **overrides)
    return Predictor.of(checkpoint), inputs_of(checkpoint, 2)


def test_the_layers_stand_in_the_order_in_which_they_compute() -> None:
    predictor, _ = make_predictor("paper-2012", **NARROW)
    names = list(list_layers(predictor.model))
    assert names[:4] == ["conv1", "relu1", "norm1", "pool1"]
    assert names[-1] == "fc8"


def test_a_layer_computes_what_the_layers_up_to_it_compute() -> None:
    predictor, x = make_predictor("notes-cifar10", **NARROW)
    with torch.no_grad():
        expected = x
        for name, layer in predictor.model.features.named_children():
            expected = layer(expected.clone())
            if name == "conv3":
                break
    assert torch.allclose(compute_layer(predictor.model, x, "conv3"), expected, atol=1e-5)


def test_a_convolution_is_shown_as_it_is_before_the_activation_that_computes_in_place() -> None:
    predictor, x = make_predictor("notes-cifar10", **NARROW)
    assert compute_layer(predictor.model, x, "conv1").min() < 0
    assert compute_layer(predictor.model, x, "relu1").min() == 0


def test_the_last_layer_computes_the_logits() -> None:
    predictor, x = make_predictor()
    assert torch.allclose(compute_layer(predictor.model, x, "fc8"), predictor.logits(x), atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_the_last_maps_are_those_that_the_last_pool_reads(variant: dict[str, Any]) -> None:
    predictor, x = make_predictor(**{**variant, **NARROW})
    seen: list[torch.Tensor] = []
    handle = find_last_maps(predictor.model).register_forward_hook(lambda *it: seen.append(it[2].clone()))
    pool = predictor.model.features.get_submodule("pool5")
    read: list[torch.Tensor] = []
    other = pool.register_forward_pre_hook(lambda *it: read.append(it[1][0].clone()))
    predictor.logits(x)
    handle.remove()
    other.remove()
    assert torch.equal(seen[0], read[0])


@pytest.mark.parametrize("form", ["inverted", "2012"])
def test_the_last_hidden_layer_is_what_the_last_layer_reads(form: str) -> None:
    predictor, x = make_predictor(dropout_form=form)
    with last_hidden_layer(predictor.model) as units:
        logits = predictor.logits(x)
    last = layer_of(predictor.model, "classifier.fc8", torch.nn.Linear)
    with torch.no_grad():
        assert torch.allclose(last(units[0].clone()), logits, atol=1e-5)
    assert units[0].min() == 0, "it is after the activation"
    predictor.logits(x)
    assert len(units) == 1, "nothing is noted after the block"


def test_an_unknown_layer_is_refused_with_those_that_there_are() -> None:
    predictor, x = make_predictor()
    with pytest.raises(UnknownLayer, match=r"no layer 'conv9': its layers are conv1, .*fc8"):
        compute_layer(predictor.model, x, "conv9")
