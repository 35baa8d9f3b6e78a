"""The two halves of a network, linked in one process; `test_world` has them in two."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from alexnet_core.errors import ConfigError
from alexnet_core.network.model import build_model
from alexnet_core.network.towers import DeviceLink, TowerNetwork, join_towers, split_tensors, split_towers
from tests.alexnet_core.several import TOWERS

CPU = torch.device("cpu")


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize(
    ("classes", "overrides"),
    [
        (5, {}),
        (4, {"norm": "lrn_caffe", "conv1_order": "pool_activate_normalise", "dropout_place": "before"}),
        (7, {"norm": "batch", "pool5_px": 2}),
        (2, {"padding": "ceil", "image_px": 35, "kernels": (5, 3, 3, 3, 3), "conv1_stride": 2, "activation": "tanh"}),
        (6, {"lrn_size": 9, "lrn_alpha": 0.1, "conv1_order": "pool_normalise_activate", "map_norm_layers": ["conv1"]}),
        (6, {"lrn_within_tower": True, "lrn_alpha": 0.1, "conv2_order": "normalise_pool_activate"}),
        (9, {"widths": (2, 2, 4, 4, 2)}),  # one map a tower: nearer than the normalisation reaches
    ],
)
def test_towers_have_the_plain_networks_logits_and_gradients(
    classes: int, overrides: dict[str, Any], batch: int
) -> None:
    torch.manual_seed(0)
    config = TOWERS.with_overrides(overrides)
    plain = build_model(config, classes, 3).double()
    network = TowerNetwork(split_towers(plain), DeviceLink((CPU, CPU)))
    x, labels = torch.randn(batch, 3, config.image_px, config.image_px).double(), torch.arange(batch) % classes
    if overrides.get("norm") == "batch" and batch == 1:
        plain.eval(), network.eval()
    logits = [model(x) for model in (plain, network)]
    torch.testing.assert_close(logits[1], logits[0], rtol=0, atol=1e-10)
    for result in logits:
        (F.cross_entropy(result, labels) * 100).backward()
    expected = {name: value.grad for name, value in plain.named_parameters()}
    halves: list[dict[str, torch.Tensor]] = [{}, {}]
    for key, value in network.named_parameters():
        _, tower, name = key.split(".", 2)
        assert value.grad is not None
        halves[int(tower)][name] = value.grad
    found = join_towers(halves)
    assert found.keys() == expected.keys()
    for name, grad in expected.items():
        assert grad is not None
        torch.testing.assert_close(found[name], grad, rtol=0, atol=1e-10, msg=name)
        assert name.endswith("8.bias") or bool((grad != 0).any()), f"{name} says nothing"


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("classes", [1, 4, 7])
def test_weights_go_to_the_towers_and_back_without_a_changed_bit(norm: str, classes: int) -> None:
    plain = build_model(TOWERS.with_overrides({"norm": norm}), classes, 1)
    before = copy.deepcopy(plain.state_dict())
    halves = split_towers(plain)
    joined = join_towers([half.state_dict() for half in halves])
    assert list(joined) == list(before)
    for name, value in before.items():
        assert torch.equal(joined[name], value), name
        assert joined[name].dtype == value.dtype
        for tower, half in enumerate(halves):
            assert torch.equal(split_tensors(before, tower)[name], half.state_dict()[name])
    rows = [len(half.get_parameter("classifier.fc8.weight")) for half in halves]
    assert rows == [(classes + 1) // 2, classes // 2]


def test_a_tower_has_half_of_the_parameters_in_its_own_memory() -> None:
    plain = build_model(TOWERS, 4, 3)
    first, second = split_towers(plain)
    assert sum(p.numel() for half in (first, second) for p in half.parameters()) == sum(
        p.numel() for p in plain.parameters()
    )
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.fill_(9)
    assert not any(bool((value == 9).any()) for value in plain.state_dict().values())


def test_a_network_of_one_group_has_no_towers() -> None:
    with pytest.raises(ConfigError, match="groups 2"):
        split_towers(build_model(TOWERS.with_overrides({"groups": 1}), 3, 1))
