"""A large fully connected layer and its optimiser against torch's own pair."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from alexnet_core.network import linear
from alexnet_core.network.linear import WideLinear
from alexnet_core.precision import autocast
from alexnet_core.training.optimiser import BlockSGD, VelocitySGD


@pytest.fixture(autouse=True)
def _small_matrices_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MIN_VALUES", 1)
    monkeypatch.setattr("alexnet_core.training.optimiser._BLOCK_VALUES", 100)


def train(rule: type[torch.optim.SGD], layer: nn.Linear, steps: int, **options: Any) -> list[torch.Tensor]:
    own: dict[str, Any] = {"layers": [layer]} if issubclass(rule, BlockSGD) else {"fused": True}
    optimiser = rule([{"params": list(layer.parameters())}], **own, **options)
    torch.manual_seed(1)
    for step in range(steps):
        x = torch.randn(8, 24)
        optimiser.param_groups[0]["lr"] = 0.1 if step < 3 else 0.01
        with torch.autocast("cpu", torch.bfloat16):
            loss = layer(x).float().square().mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return [layer.weight.detach().clone(), layer.bias.detach().clone()]


def build(kind: type[nn.Linear]) -> nn.Linear:
    torch.manual_seed(0)
    return kind(24, 40)


@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}])
def test_training_gives_torchs_values(options: dict[str, Any]) -> None:
    ours = train(BlockSGD, build(WideLinear), 6, lr=0.1, **options)
    torchs = train(torch.optim.SGD, build(nn.Linear), 6, lr=0.1, **options)
    torch.testing.assert_close(ours[0], torchs[0], rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ours[1], torchs[1], rtol=1e-2, atol=1e-4)  # its bias' gradient is summed in fp32


def test_the_rate_inside_the_velocity_gives_the_values_of_a_small_layer(monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = train(VelocitySGD, build(WideLinear), 6, lr=0.1, momentum=0.9)
    monkeypatch.setattr(linear, "MIN_VALUES", 1 << 20)
    whole = train(VelocitySGD, build(WideLinear), 6, lr=0.1, momentum=0.9)
    torch.testing.assert_close(blocks[0], whole[0], rtol=1e-3, atol=1e-5)


def test_the_copy_follows_every_change_of_the_matrix() -> None:
    layer = build(WideLinear)
    assert isinstance(layer, WideLinear)
    train(BlockSGD, layer, 2, lr=0.1)
    copy = layer.find_copy()
    assert copy is not None
    assert torch.equal(copy, layer.weight.detach().bfloat16())
    assert layer.get_copy(torch.bfloat16) is copy
    layer.load_state_dict(build(WideLinear).state_dict())
    fresh = layer.get_copy(torch.bfloat16)
    assert torch.equal(fresh, layer.weight.detach().bfloat16())
    assert not torch.equal(fresh, copy)


def test_the_gradient_comes_in_the_precision_of_the_products() -> None:
    layer = build(WideLinear)
    assert isinstance(layer, WideLinear)
    for kept, dtype in ((False, torch.float32), (True, torch.bfloat16)):
        layer.weight.grad = None
        if kept:
            assert layer.keep_memory()
        with torch.autocast("cpu", torch.bfloat16):
            layer(torch.randn(4, 24)).sum().backward()
        assert layer.weight.grad is not None
        assert layer.weight.grad.dtype == dtype


def test_without_autocast_and_in_evaluation_it_is_an_ordinary_layer() -> None:
    ours, torchs = build(WideLinear), build(nn.Linear)
    assert isinstance(ours, WideLinear)
    ours.keep_memory()
    x = torch.randn(3, 24)
    assert torch.equal(ours(x), torchs(x))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours(x), torchs(x))
    assert ours.find_copy() is None


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}])
def test_fp32_has_torchs_very_bits_after_several_steps(options: dict[str, Any]) -> None:
    found = []
    for kind, rule in ((WideLinear, BlockSGD), (nn.Linear, torch.optim.SGD)):
        torch.manual_seed(0)
        layers = nn.ModuleList([kind(300, 257), kind(257, 130)])
        own: dict[str, Any] = {"layers": list(layers)} if rule is BlockSGD else {}
        groups = [{"params": list(layers.parameters())}]
        optimiser = rule(groups, fused=True, lr=0.01, **own, **options)
        for _ in range(5):
            first, second = layers
            loss = second(torch.relu(first(torch.randn(33, 300)))).square().mean()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()
        found.append([value.detach().clone() for value in layers.parameters()])
    assert all(torch.equal(ours, torchs) for ours, torchs in zip(*found, strict=True))


def test_a_small_matrix_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "MIN_VALUES", 24 * 40 + 1)
    layer = build(WideLinear)
    assert isinstance(layer, WideLinear)
    assert not layer.keep_memory()


def test_without_momentum_no_velocity_is_kept() -> None:
    layer = build(WideLinear)
    assert isinstance(layer, WideLinear)
    optimiser = BlockSGD([{"params": [layer.weight]}], layers=[layer], lr=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        layer(torch.randn(4, 24)).sum().backward()
    optimiser.step()
    assert optimiser.state[layer.weight].get("momentum_buffer") is None


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("rule", [BlockSGD, VelocitySGD])
def test_a_gradients_memory_serves_the_next_one_and_nobody_elses_is_written_to(
    rule: type[BlockSGD], precision: str
) -> None:
    layer = build(WideLinear)
    assert isinstance(layer, WideLinear)
    optimiser = rule([{"params": [layer.weight]}], layers=[layer], lr=0.1, momentum=0.9)

    def find_gradient(step: bool) -> torch.Tensor:
        with autocast(torch.device("cpu"), precision):
            layer(torch.randn(4, 24)).sum().backward()
        assert layer.weight.grad is not None
        gradient = layer.weight.grad
        if step:
            optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return gradient

    memory = find_gradient(step=True).untyped_storage()  # held, so that nothing else gets the same by chance
    second = find_gradient(step=False)
    assert second.data_ptr() == memory.data_ptr()
    before = second.clone()
    assert find_gradient(step=False).data_ptr() != second.data_ptr(), "it was not given back"
    assert torch.equal(second, before)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_gradients_of_several_backward_passes_add_up(precision: str) -> None:
    layer = build(WideLinear)
    assert isinstance(layer, WideLinear)
    optimiser = BlockSGD([{"params": [layer.weight]}], layers=[layer], lr=0.1)
    x = torch.randn(4, 24)
    gradients = []
    for passes in (1, 2, 1):
        for _ in range(passes):
            with autocast(torch.device("cpu"), precision):
                (layer(x) * torch.arange(40.0)).sum().backward()
        assert layer.weight.grad is not None
        gradients.append(layer.weight.grad.clone())
        optimiser.step()
    assert torch.equal(gradients[1], 2 * gradients[0])
    assert torch.equal(gradients[2], gradients[0])
