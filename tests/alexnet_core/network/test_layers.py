"""Padding against a plain loop, and dropout."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from alexnet_core.network.layers import (
    Dropout,
    Dropout2012,
    PaddedConv2d,
    SameMaxPool2d,
    ceil_padding,
    draw_kept,
    same_padding,
)


def test_ceil_padding_makes_55_of_224() -> None:
    assert ceil_padding(224, 11, 4) == (0, 3)
    assert ceil_padding(227, 11, 4) == (0, 0)


def test_same_padding_is_tensorflows() -> None:
    assert same_padding(32, 11, 4) == (3, 4)
    assert same_padding(8, 3, 2) == (0, 1)
    assert same_padding(7, 3, 2) == (1, 1)


@pytest.mark.parametrize("size", [7, 8])
def test_same_convolution_and_pooling_agree_with_a_plain_loop(size: int) -> None:
    x = torch.randn(1, 1, size, size)
    conv = PaddedConv2d(1, 1, 3, 2, rule="tf_same", groups=1, bias=False)
    before, after = same_padding(size, 3, 2)
    image = x[0, 0].numpy()
    zeros = np.pad(image, (before, after))
    lowest = np.pad(image, (before, after), constant_values=-np.inf)
    kernel = conv.weight.detach().numpy()[0, 0]
    places = range(math.ceil(size / 2))
    convolved = [[(zeros[2 * i : 2 * i + 3, 2 * j : 2 * j + 3] * kernel).sum() for j in places] for i in places]
    pooled = [[lowest[2 * i : 2 * i + 3, 2 * j : 2 * j + 3].max() for j in places] for i in places]
    np.testing.assert_allclose(conv(x)[0, 0].detach().numpy(), convolved, atol=1e-5)
    np.testing.assert_allclose(SameMaxPool2d(3, 2)(x)[0, 0].numpy(), pooled)


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("shape", [(401, 333), (1, 3), (2, 5, 7)])
def test_a_share_is_kept_and_the_mean_with_it(rate: float, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    x = torch.full(shape, 2.0)
    kept = draw_kept(x, 1 - rate)
    assert kept.shape == x.shape
    assert set(kept.unique().tolist()) <= {0.0, 1.0}
    if x.numel() > 1000:
        assert float(kept.mean()) == pytest.approx(1 - rate, abs=0.005)
        assert float(Dropout(rate)(x).mean()) == pytest.approx(2, rel=0.02)
        neighbours = torch.corrcoef(kept.view(-1)[: 4 * (x.numel() // 4)].view(-1, 4).T)
        assert float((neighbours - torch.eye(4)).abs().max()) < 0.02  # the four places of one draw
    assert torch.equal(Dropout(rate).eval()(x), x)


@pytest.mark.parametrize("rate", [0.0, 1e-6])
def test_a_dropout_of_nothing_or_next_to_it_drops_nothing(rate: float) -> None:
    x = torch.full((40, 50), 2.0)
    for layer in (Dropout(rate), Dropout2012(rate)):
        torch.testing.assert_close(layer.train()(x), x)
        torch.testing.assert_close(layer.eval()(x), x)


def test_dropout_follows_torchs_seed() -> None:
    x = torch.ones(64, 64)
    draws = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        draws.append(draw_kept(x, 0.5))
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
