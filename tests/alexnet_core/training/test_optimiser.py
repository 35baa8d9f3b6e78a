"""The update rules against a computation by hand, across changes of the learning rate."""

from __future__ import annotations

import math
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alexnet_core.config import TrainConfig
from alexnet_core.network.model import AlexNet, build_model
from alexnet_core.training.optimiser import (
    AdamW,
    BlockSGD,
    VelocitySGD,
    build_optimiser,
    load_optimiser_tensors,
    optimiser_tensors,
    set_learning_rate,
)
from tests.alexnet_core.killing import ROOT

SMALL = TrainConfig(
    widths=(4, 4, 4, 4, 4), kernels=(3, 3, 3, 3, 3), fc_widths=(8, 8), image_px=16, batch_size=8, epochs=1,
    optimiser="sgd_lr_in_velocity", weight_decay=0.1, lr=0.1,
)  # fmt: skip
STEPS = [(0.1, 2.0), (0.1, -1.0), (0.01, 3.0), (0.01, 0.5), (0.2, 1.0), (0.0, 9.0), (0.0, 9.0), (0.05, -2.0)]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.05])
def test_the_rate_stands_inside_the_velocity(nesterov: bool, decay: float) -> None:
    weight = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimiser = VelocitySGD([{"params": [weight]}], lr=0.1, momentum=0.9, nesterov=nesterov, weight_decay=decay)
    w, v = 1.0, 0.0
    for lr, gradient in STEPS:
        optimiser.param_groups[0]["lr"] = lr
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
        optimiser.step()
        change = lr * (gradient + decay * w)
        v = 0.9 * v - change
        w += 0.9 * v - change if nesterov else v
        assert weight.item() == pytest.approx(w, abs=1e-12), lr


def test_torchs_own_rule_differs_right_after_a_change() -> None:
    def train(rule: type[torch.optim.SGD]) -> float:
        weight = nn.Parameter(torch.tensor([1.0]))
        optimiser = rule([weight], lr=0.1, momentum=0.9)
        for lr in (0.1, 0.1, 0.01):
            optimiser.param_groups[0]["lr"] = lr
            weight.grad = torch.tensor([1.0])
            optimiser.step()
        return weight.item()

    # torch: 1 - .1 - .1 * 1.9 - .01 * 2.71; the paper: the old velocity goes on at the old rate
    assert train(torch.optim.SGD) == pytest.approx(1 - 0.1 - 0.19 - 0.0271)
    assert train(VelocitySGD) == pytest.approx(1 - 0.1 - 0.19 - (0.9 * 0.19 + 0.01))


def groups_of(config: TrainConfig, model: AlexNet) -> dict[str, tuple[float, float]]:
    """Learning rate and decay of every parameter, by name."""
    optimiser = build_optimiser(config, model)
    set_learning_rate(optimiser, 0.1, 0.003 if config.conv1_lr_steps else None)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr"], group["weight_decay"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }


def test_biases_and_layers_learn_at_their_own_rates() -> None:
    config = SMALL.with_overrides(
        {"bias_lr_factor": 2.0, "layer_lr_factors": [["fc8", 10.0], ["conv2", 0.0]], "conv1_lr_steps": [[0, 0.003]]}
    )
    rates = groups_of(config, build_model(config, 3, 1))
    assert len(rates) == 16
    assert rates["features.conv1.weight"] == (0.003, 0.1)
    assert rates["features.conv2.weight"] == (0.0, 0.1)
    expected: dict[str, tuple[Any, float]] = {
        "features.conv3.weight": (pytest.approx(0.1), 0.1),
        "features.conv3.bias": (pytest.approx(0.2), 0.0),
        "classifier.fc8.weight": (pytest.approx(1.0), 0.1),
        "classifier.fc8.bias": (pytest.approx(2.0), 0.0),
    }
    for name, numbers in expected.items():
        assert rates[name] == numbers, name


def test_biases_and_norms_decay_only_if_asked() -> None:
    for asked in (False, True):
        config = SMALL.with_overrides({"decay_biases": asked, "norm": "batch"})
        decays = groups_of(config, build_model(config, 3, 1))
        assert decays["features.norm1.weight"][1] == (0.1 if asked else 0.0)
        assert decays["classifier.fc6.bias"][1] == (0.1 if asked else 0.0)
        assert decays["classifier.fc6.weight"][1] == 0.1


def test_saved_buffers_go_on_to_the_same_bits_across_a_change_of_the_rate() -> None:
    def step(model: AlexNet, optimiser: torch.optim.Optimizer, lr: float) -> None:
        set_learning_rate(optimiser, lr)
        for number, parameter in enumerate(model.parameters()):
            gradient = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
            parameter.grad = torch.empty_like(parameter).copy_(gradient)  # in its layout, as autograd does
        optimiser.step()

    rates = [0.1, 0.01, 0.0, 0.3]
    torch.manual_seed(0)
    whole = build_model(SMALL, 3, 1)
    rule = build_optimiser(SMALL, whole)
    for lr in rates:
        step(whole, rule, lr)
    for cut in range(1, len(rates)):
        torch.manual_seed(0)
        first = build_model(SMALL, 3, 1)
        before = build_optimiser(SMALL, first)
        for lr in rates[:cut]:
            step(first, before, lr)
        second = build_model(SMALL, 3, 1)
        second.load_state_dict(first.state_dict())
        after = build_optimiser(SMALL, second)
        saved = {name: value.clone() for name, value in optimiser_tensors(before, first).items()}
        load_optimiser_tensors(after, second, saved)
        for lr in rates[cut:]:
            step(second, after, lr)
        for name, value in second.state_dict().items():
            assert torch.equal(value, whole.state_dict()[name]), (cut, name)


@pytest.mark.parametrize("rule", [BlockSGD, VelocitySGD])
@pytest.mark.parametrize("options", [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}])
def test_a_kernel_is_updated_alike_in_every_order_of_its_memory(
    rule: type[BlockSGD], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alexnet_core.training.optimiser._BLOCK_VALUES", 100)
    first, gradients = torch.randn(5, 3, 3, 3), torch.randn(4, 5, 3, 3, 3)

    def train(kind: type[torch.optim.SGD], order: torch.memory_format) -> torch.Tensor:
        kernel = nn.Parameter(first.contiguous(memory_format=order).clone())
        optimiser = kind([kernel], lr=0.1, **options)
        for lr, gradient in zip((0.1, 0.1, 0.01, 0.01), gradients, strict=True):
            optimiser.param_groups[0]["lr"] = lr
            kernel.grad = gradient.contiguous(memory_format=order)
            optimiser.step()
        velocity = optimiser.state[kernel].get("momentum_buffer")
        assert velocity is None or velocity.stride() == kernel.stride()
        return kernel.detach()

    updated = train(rule, torch.channels_last)
    assert updated.stride() == (27, 1, 9, 3)
    torch.testing.assert_close(updated, train(rule, torch.contiguous_format), rtol=1e-6, atol=1e-7)
    if rule is BlockSGD:
        torch.testing.assert_close(updated, train(torch.optim.SGD, torch.contiguous_format), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("rule", ["sgd", "sgd_lr_in_velocity", "adamw"])
def test_a_step_that_was_skipped_for_its_loss_scale_leaves_nothing_behind(rule: str) -> None:
    """fp16 begins with a scale that is too large: those steps must be as if they had not been."""

    def train(gradients: list[float]) -> tuple[list[Tensor], dict[str, Tensor]]:
        torch.manual_seed(0)
        model = nn.Linear(3, 3)
        config = SMALL.with_overrides({"precision": "fp16", "optimiser": rule})
        network = nn.Sequential(OrderedDict(fc8=model))
        optimiser = build_optimiser(config, nn.Sequential(OrderedDict(classifier=network)))
        scaler = torch.amp.GradScaler("cpu", init_scale=1.0)
        for value in gradients:
            set_learning_rate(optimiser, 0.1)
            scaler.scale(torch.zeros(1))
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, value)
            scaler.step(optimiser)
            scaler.update(1.0)
        return list(model.parameters()), optimiser_tensors(optimiser, model)

    weights, buffers = train([math.inf, math.inf, 1.0, -2.0])
    expected, expected_buffers = train([1.0, -2.0])
    assert all(torch.equal(a, b) for a, b in zip(weights, expected, strict=True))
    assert buffers.keys() == expected_buffers.keys()
    assert all(torch.equal(buffers[key], expected_buffers[key]) for key in buffers)


@pytest.mark.parametrize(("ours", "theirs"), [(BlockSGD, torch.optim.SGD), (AdamW, torch.optim.AdamW)])
def test_a_rule_without_its_wrappers_is_torchs_own(ours: Any, theirs: Any) -> None:
    weights = [nn.Parameter(torch.linspace(-1, 1, 12).reshape(3, 4)) for _ in range(2)]
    options = {"momentum": 0.9, "nesterov": True} if theirs is torch.optim.SGD else {}
    rules = [
        rule([{"params": [one]}], lr=0.1, fused=True, **options)
        for rule, one in zip((ours, theirs), weights, strict=True)
    ]
    for number in range(5):
        for rule, one in zip(rules, weights, strict=True):
            one.square().mul(number + 1).sum().backward()
            rule.step()
            rule.zero_grad()
            assert one.grad is None
        assert torch.equal(*weights)


def test_a_run_loads_no_compiler(tmp_path: Path) -> None:
    """`torch.compile` takes as long to load as torch itself, and nothing here uses it."""
    code = """
import pathlib, sys
from tests.alexnet_core.training import test_run_options as runs
folder = pathlib.Path(sys.argv[1])
pack = runs.write_toy_pack(folder / "pack")
for rule in ("sgd", "sgd_lr_in_velocity", "adamw"):
    result = runs.train(pack, folder / rule, runs.CONFIG.with_overrides({"optimiser": rule, "epochs": 1}))
    assert result.outcome == "succeeded"
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
