"""The written-out convolution against torch's own."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from alexnet_core.network.convolution import MAX_PIXELS, SmallMapConv2d


def build(height: int, width: int, kernel: int, bias: bool) -> tuple[SmallMapConv2d, nn.Conv2d, torch.Tensor]:
    torch.manual_seed(0)
    ours = SmallMapConv2d(3, 5, kernel, bias=bias).to(torch.float64).to(memory_format=torch.channels_last)
    torchs = nn.Conv2d(3, 5, kernel, padding=kernel // 2, bias=bias).to(torch.float64)
    torchs.load_state_dict(ours.state_dict())
    x = torch.randn(4, 3, height, width, dtype=torch.float64).contiguous(memory_format=torch.channels_last)
    return ours, torchs, x


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("kernel", [1, 3, 5, 7, 11])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 2), (3, 3), (4, 4), (2, 5), (6, 6)])
def test_values_and_gradients_are_torchs(height: int, width: int, kernel: int, bias: bool) -> None:
    ours, torchs, x = build(height, width, kernel, bias)
    inputs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
    outputs = [ours(inputs[0]), torchs(inputs[1])]
    written_out = outputs[0].grad_fn.name() == "_WrittenOutBackward"
    torch.testing.assert_close(*outputs)
    weights = torch.randn_like(outputs[1])
    for output in outputs:
        (output * weights).sum().backward()
    torch.testing.assert_close(inputs[0].grad, inputs[1].grad)
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad)
    if ours.bias is not None and torchs.bias is not None:
        torch.testing.assert_close(ours.bias.grad, torchs.bias.grad)
    assert written_out == (height * width <= MAX_PIXELS)


def test_what_follows_may_write_over_its_output() -> None:
    ours, torchs, x = build(2, 2, 3, True)
    output = ours(x)
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert not output._is_view(), "autograd would copy it for every write"
    for layer in (ours, torchs):
        nn.functional.relu(layer(x), inplace=True).sum().backward()
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad)


def test_forward_passes_before_a_backward_pass_do_not_disturb_it() -> None:
    ours, torchs, x = build(2, 2, 3, True)
    for layer in (ours, torchs):
        first = layer(x).sum()
        second = layer(x * 2).square().sum()
        first.backward()
        layer(x).sum().backward()
        second.backward()
    torch.testing.assert_close(ours.weight.grad, torchs.weight.grad)


def test_a_changed_kernel_and_another_size_are_seen() -> None:
    ours, torchs, _ = build(2, 2, 5, True)
    for height, width in ((2, 2), (4, 4), (2, 2), (4, 1), (1, 4)):
        x = torch.randn(4, 3, height, width, dtype=torch.float64)
        with torch.no_grad():
            ours.weight.add_(1)
            torchs.weight.add_(1)
        y = ours(x)
        torch.testing.assert_close(y, torchs(x))
        y.sum().backward()


def test_gradients_hold_against_differences() -> None:
    ours, _, x = build(2, 2, 3, True)
    assert torch.autograd.gradcheck(ours, (x[:2].requires_grad_(),))


def test_in_bf16_it_is_as_near_to_the_truth_as_torchs() -> None:
    ours, torchs, x = build(4, 4, 5, True)
    exact = torchs(x)
    with torch.autocast("cpu", torch.bfloat16):
        near = [ours.float()(x.float()), torchs.float()(x.float())]
    errors = [float((output.double() - exact).detach().abs().max()) for output in near]
    assert near[0].dtype == torch.bfloat16
    assert errors[0] < 2 * errors[1] + 1e-3


def test_the_kernels_gradient_has_the_kernels_layout() -> None:
    ours, _, x = build(2, 2, 3, True)
    ours(x).sum().backward()
    assert ours.weight.grad is not None
    assert ours.weight.grad.stride() == ours.weight.stride()


def test_an_input_without_a_gradient_gets_none() -> None:
    ours, _, x = build(2, 2, 3, False)
    ours(x).sum().backward()
    assert x.grad is None
