"""Local response normalisation against its formula, written out in float64."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from alexnet_core.network import normalisation
from alexnet_core.network.normalisation import LocalResponseNorm, MapResponseNorm
from alexnet_core.network.response_forms import FORMS, ResponseForm, response_form

FORM_NAMES = list(FORMS)


def by_formula(x_BCHW: Tensor, form: ResponseForm) -> Tensor:
    """Krizhevsky 2012, section 3.3, map by map."""
    channels, half = x_BCHW.shape[1], form.size // 2
    x = x_BCHW.to(torch.float64)
    maps = []
    for i in range(channels):
        total = sum((x[:, j] ** 2 for j in range(max(0, i - half), min(channels, i + half + 1))), torch.zeros(()))
        maps.append(x[:, i] / (form.k + form.alpha * total) ** form.beta)
    return torch.stack(maps, dim=1)


def draw(channels: int, size: float, dtype: torch.dtype = torch.float64) -> Tensor:
    torch.manual_seed(0)
    x = (torch.randn(3, channels, 5, 4, dtype=torch.float64) * size).to(dtype)
    return x.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", FORM_NAMES)
@pytest.mark.parametrize("channels", [1, 3, 5, 96])
@pytest.mark.parametrize("size", [1.0, 100.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_values_are_those_of_the_formula(
    name: str, channels: int, size: float, dtype: torch.dtype, tolerance: float
) -> None:
    x = draw(channels, size, dtype)
    y = LocalResponseNorm(FORMS[name])(x)
    torch.testing.assert_close(y.to(torch.float64), by_formula(x, FORMS[name]), rtol=tolerance, atol=0)
    assert y.dtype == dtype
    assert y.stride() == x.stride()


@pytest.mark.parametrize("name", FORM_NAMES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2)])
def test_gradients_are_those_of_the_formula(name: str, dtype: torch.dtype, tolerance: float) -> None:
    ours = draw(16, 30.0, dtype).requires_grad_()
    exact = ours.detach().to(torch.float64).requires_grad_()
    towards = torch.randn(3, 16, 5, 4, dtype=torch.float64).to(dtype)
    LocalResponseNorm(FORMS[name])(ours).backward(towards)
    by_formula(exact, FORMS[name]).backward(towards.to(torch.float64))
    assert ours.grad is not None
    assert exact.grad is not None
    error = (ours.grad.to(torch.float64) - exact.grad).norm() / exact.grad.norm()
    assert float(error) < tolerance


@pytest.mark.parametrize("form", [ResponseForm(5, 2.0, 0.1, 0.75), ResponseForm(3, 1.0, 0.5, 0.6)])
def test_gradients_hold_against_differences(form: ResponseForm) -> None:
    assert torch.autograd.gradcheck(LocalResponseNorm(form), (draw(6, 1.0)[:1].requires_grad_(),))


@pytest.mark.parametrize("name", FORM_NAMES)
def test_torchs_own_gives_the_same_with_alpha_times_its_size(name: str) -> None:
    form = FORMS[name]
    torchs = nn.LocalResponseNorm(form.size, alpha=form.alpha * form.size, beta=form.beta, k=form.k)
    x = draw(24, 50.0, torch.float32)
    torch.testing.assert_close(LocalResponseNorm(form)(x), torchs(x), rtol=1e-5, atol=1e-6)


def test_the_blocks_on_a_cpu_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    x = draw(8, 20.0, torch.float32)
    layer = LocalResponseNorm(FORMS["lrn"])
    whole = layer(x)
    monkeypatch.setattr(normalisation, "_BLOCK_VALUES", 8 * 7)
    torch.testing.assert_close(layer(x), whole, rtol=1e-6, atol=0)


def test_values_in_fp32_stay_exact_under_autocast() -> None:
    x = draw(16, 100.0, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y = LocalResponseNorm(FORMS["lrn"])(x)
    torch.testing.assert_close(y.to(torch.float64), by_formula(x, FORMS["lrn"]), rtol=1e-6, atol=0)


def test_what_follows_may_write_over_its_output() -> None:
    x = draw(4, 1.0, torch.float32).requires_grad_()
    nn.functional.relu(LocalResponseNorm(FORMS["lrn"])(x), inplace=True).sum().backward()
    assert x.grad is not None


def test_a_contiguous_input_is_taken_too() -> None:
    x = draw(8, 20.0, torch.float32)
    layer = LocalResponseNorm(FORMS["lrn"])
    torch.testing.assert_close(layer(x.contiguous()), layer(x))


@pytest.mark.parametrize("form", [ResponseForm(5, 2.0, 0.1, 0.75), ResponseForm(9, 1.0, 0.5, 0.6)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_two_groups_are_two_norms_side_by_side(form: ResponseForm, dtype: torch.dtype) -> None:
    x = draw(12, 3.0, dtype)
    expected = torch.cat([by_formula(half, form) for half in x.chunk(2, dim=1)], dim=1)
    torch.testing.assert_close(LocalResponseNorm(form, groups=2)(x).double(), expected, rtol=1e-5, atol=0)
    assert not torch.allclose(LocalResponseNorm(form)(x).double(), expected, rtol=1e-3)


def test_gradients_of_two_groups_hold_against_differences() -> None:
    layer = LocalResponseNorm(ResponseForm(3, 1.0, 0.5, 0.6), groups=2)
    assert torch.autograd.gradcheck(layer, (draw(6, 1.0)[:1].requires_grad_(),))


def within_maps(x_BCHW: Tensor, form: ResponseForm) -> Tensor:
    """Pixel by pixel; alpha is divided by the pixels of the square, also at the border."""
    half, x, y = form.size // 2, x_BCHW.double(), torch.empty_like(x_BCHW, dtype=torch.float64)
    for i in range(x.shape[2]):
        for j in range(x.shape[3]):
            near = x[:, :, max(0, i - half) : i + half + 1, max(0, j - half) : j + half + 1]
            total = (near**2).sum(dim=(2, 3)) / form.size**2
            y[:, :, i, j] = x[:, :, i, j] / (form.k + form.alpha * total) ** form.beta
    return y


@pytest.mark.parametrize("form", [ResponseForm(5, 2.0, 1e-3, 0.75), ResponseForm(3, 1.0, 0.5, 0.6)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2)])
def test_a_norm_within_maps_is_its_formula(form: ResponseForm, dtype: torch.dtype, tolerance: float) -> None:
    x = draw(6, 50.0, dtype)
    y = MapResponseNorm(form)(x)
    torch.testing.assert_close(y.double(), within_maps(x, form), rtol=tolerance, atol=0)
    assert (y.dtype, y.stride()) == (x.dtype, x.stride())


def test_gradients_of_a_norm_within_maps_hold_against_differences() -> None:
    layer = MapResponseNorm(ResponseForm(3, 1.0, 0.5, 0.6))
    assert torch.autograd.gradcheck(layer, (draw(3, 1.0)[:1].requires_grad_(),))


def test_alpha_is_divided_by_the_size_where_the_form_says_so() -> None:
    numbers: dict[str, Any] = {"size": 9, "k": None, "alpha": 0.001, "beta": 0.75}
    assert response_form("lrn", **numbers) == ResponseForm(9, 2.0, 0.001, 0.75)
    assert response_form("lrn_2012_code", **numbers) == ResponseForm(9, 2.0, 0.001 / 9, 0.75)
    assert response_form("lrn_caffe", **numbers) == ResponseForm(9, 1.0, 0.001 / 9, 0.75)
    assert response_form("lrn_caffe", **numbers | {"k": 3.0}).k == 3.0
