"""ONNX files: onnxruntime answers as the network does, and local response norms are one operator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from alexnet_core.errors import ExportUnsupported
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.export.layers import list_layers
from alexnet_core.export.onnx import build_onnx, write_onnx
from alexnet_core.inference.averages import average_shares
from alexnet_core.network.checkpoint import Checkpoint
from alexnet_core.network.response_forms import FORMS
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


def answers(model: onnx.ModelProto, x_BCHW: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    [logits_BK] = session.run(["logits"], {"input": x_BCHW.numpy()})
    return torch.from_numpy(logits_BK)


def assert_agrees(checkpoint: Checkpoint) -> onnx.ModelProto:
    model = build_onnx(checkpoint)
    for count in (1, 5):
        x_BCHW = inputs_of(checkpoint, count)
        expected_BK = logits_of(checkpoint, x_BCHW)
        found_BK = answers(model, x_BCHW)
        torch.testing.assert_close(found_BK, expected_BK, rtol=0, atol=1e-4)
    assert_same_answers(found_BK, expected_BK)
    return model


@pytest.mark.parametrize("recipe", [recipe.name for recipe in list_recipes()])
def test_every_recipe_answers_the_same_in_onnxruntime(recipe: str) -> None:
    assert_agrees(make_checkpoint(recipe, **NARROW))


def test_the_whole_network_of_the_notes_answers_the_same_in_onnxruntime() -> None:
    model = assert_agrees(make_checkpoint("notes-cifar10"))
    trained = sum(np.prod(weight.dims) for weight in model.graph.initializer)
    assert trained == 21_622_154


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(str(value) for value in variant.values()))
def test_every_choice_of_layers_answers_the_same_in_onnxruntime(variant: dict[str, Any]) -> None:
    assert_agrees(make_checkpoint(**{"width_multiplier": 0.25, **variant}))


@pytest.mark.parametrize(
    ("norm", "alpha", "bias"), [("lrn", 5e-4, 2), ("lrn_2012_code", 1e-4, 2), ("lrn_caffe", 1e-4, 1)]
)
def test_a_local_response_norm_is_one_operator_with_the_forms_numbers(norm: str, alpha: float, bias: float) -> None:
    checkpoint = make_checkpoint("notes-cifar10", norm=norm, **NARROW)
    model = build_onnx(checkpoint)
    nodes = [node for node in model.graph.node if node.op_type == "LRN"]
    assert len(nodes) == 2
    for node in nodes:
        numbers = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        assert numbers == pytest.approx({"alpha": alpha, "beta": 0.75, "bias": bias, "size": 5})
    loud_BCHW = inputs_of(checkpoint) * 100  # so that the squares, and with them alpha, matter
    expected_BK = logits_of(checkpoint, loud_BCHW)
    torch.testing.assert_close(answers(model, loud_BCHW), expected_BK, rtol=1e-4, atol=1e-4)
    other = {"lrn": "lrn_caffe", "lrn_2012_code": "lrn", "lrn_caffe": "lrn_2012_code"}[norm]
    assert FORMS[other] != FORMS[norm]
    different = build_onnx(make_checkpoint("notes-cifar10", norm=other, **NARROW))
    assert not torch.allclose(answers(different, loud_BCHW), expected_BK, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "overrides",
    [
        {"norm": "lrn_2012_code", "lrn_within_tower": True, "groups": 2, "lrn_alpha": 0.1, "lrn_size": 3},
        {"map_norm_layers": ["conv1", "conv2"], "map_norm_alpha": 0.1, "map_norm_k": 1.0, "map_norm_beta": 0.6},
    ],
)
def test_norms_within_towers_and_maps_answer_the_same_for_loud_images(overrides: dict[str, Any]) -> None:
    checkpoint = make_checkpoint("notes-cifar10", **overrides, **NARROW)
    loud_BCHW = inputs_of(checkpoint) * 30
    expected_BK = logits_of(checkpoint, loud_BCHW)
    torch.testing.assert_close(answers(build_onnx(checkpoint), loud_BCHW), expected_BK, rtol=1e-4, atol=1e-4)
    plain = make_checkpoint("notes-cifar10", groups=overrides.get("groups", 1), **NARROW)
    assert not torch.allclose(logits_of(plain, loud_BCHW), expected_BK, rtol=0.1, atol=0.1)


def test_dropout_leaves_nothing_but_the_scale_of_2012() -> None:
    usual, of_2012 = (
        [node.op_type for node in build_onnx(make_checkpoint("quick", dropout_form=form, **NARROW)).graph.node]
        for form in ("inverted", "2012")
    )
    assert "Dropout" not in usual + of_2012
    assert of_2012.count("Mul") == 2
    assert len(of_2012) == len(usual) + 2


def test_classes_preprocessing_and_a_free_batch_size_stand_in_the_file(tmp_path: Path) -> None:
    checkpoint = make_checkpoint("quick", **NARROW)
    write_onnx(checkpoint, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    found = {entry.key: entry.value for entry in model.metadata_props}
    assert json.loads(found["class_names"]) == list(CLASSES)
    assert json.loads(found["preprocessing"]) == checkpoint.preprocessing.model_dump(mode="json")
    assert found["weights_sha256"] == checkpoint.metadata["weights_sha256"]
    [entry] = model.graph.input
    assert [d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim] == ["batch", 3, 24, 24]
    [entry] = model.graph.output
    assert [d.dim_param or d.dim_value for d in entry.type.tensor_type.shape.dim] == ["batch", 10]


def test_the_same_checkpoint_gives_the_same_bytes() -> None:
    first, second = (build_onnx(make_checkpoint("quick", **NARROW)).SerializeToString() for _ in range(2))
    assert first == second


def test_weights_that_the_format_cannot_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = make_checkpoint("quick", **NARROW)
    monkeypatch.setattr("alexnet_core.export.onnx._MAX_BYTES", 1000)
    with pytest.raises(ExportUnsupported, match="use torch_export"):
        build_onnx(checkpoint)


def test_a_layer_that_nobody_taught_the_export_is_refused_by_name() -> None:
    model = Predictor.of(make_checkpoint("quick", **NARROW)).model
    model.features.add_module("strange6", nn.GELU())
    with pytest.raises(ExportUnsupported, match=r"strange6 \(GELU\).*own folder"):
        list_layers(model, 24)


@pytest.mark.parametrize(("size", "out"), [(7, 6), (4, 6), (6, 6), (12, 4), (5, 1)])
def test_averages_have_pytorchs_windows(size: int, out: int) -> None:
    x = torch.randn(1, 2, size, size)
    shares = torch.from_numpy(average_shares(size, out))
    torch.testing.assert_close(shares @ x @ shares.T, nn.functional.adaptive_avg_pool2d(x, out))
