"""`paper-2012-run` against the released source's own numbers, computed again in numpy.

The table holds what `layers/layers-145.cfg`, `layer-params-145.cfg` and the diary at their head say
(github.com/computerhistory/AlexNet-Source-Code); names are those of the files. Epochs count from 1 there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.network.model import AlexNet, build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.network.towers import DeviceLink, TowerNetwork, split_towers
from alexnet_core.recipes import get_recipe
from alexnet_core.training.augment import Augmentation, draw_table
from alexnet_core.training.optimiser import build_optimiser, set_learning_rate
from alexnet_core.training.schedule import conv1_learning_rate, learning_rate
from tests.alexnet_core.networks import layer_of

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Norm:
    """A section of type `cmrnorm` (across maps) or `rnorm` (within a map)."""

    size: int
    scale: float
    power: float


RNORM1A = RNORM2A = Norm(size=5, scale=1e-4, power=0.75)  # of the 48 and 128 maps of one tower
CNORM2A = Norm(size=5, scale=1e-3, power=0.75)  # of type rnorm; reads rnorm2a, is read by pool2a
CONSTANT = 2.0  # Krizhevsky 2012, section 3.3
POOL, POOL_STRIDE = 3, 2
FILTERS_OF_A_TOWER = {"conv1a": 48, "conv2a": 128}
EPSB = 0.02  # of every layer, in every epoch but those in which conv1 is frozen
DIARY = [  # first epoch, weights' rate, conv1's weights' rate, colour noise
    (1, 1e-2, 1e-2, 0.1),
    (25, 1e-3, 1e-3, 0.1),
    (51, 1e-4, 1e-4, 0.1),
    (67, 1e-4, 1e-5, 0.0),
    (72, 1e-4, 0.0, 0.0),
    (79, 1e-5, 0.0, 0.0),
]
LAST_EPOCH = 91

RUN = get_recipe("paper-2012-run").config
SMALL = RUN.with_overrides({"widths": [12, 16, 8, 8, 8], "fc_widths": [16, 16], "image_px": 63, "resize_px": 72})


def build(config: TrainConfig = SMALL) -> AlexNet:
    torch.manual_seed(0)
    model = build_model(config, 5, 3).double().eval()
    with torch.no_grad():  # initial weights of .01 would leave nothing for a norm to do
        for name, parameter in model.named_parameters():
            parameter.mul_(20 if name.endswith("weight") else 0.1)
    return model


def across_maps(x_CHW: Array, norm: Norm) -> Array:
    """The source divides `scale` by the size, once, whatever the place among the maps."""
    out = np.empty_like(x_CHW)
    for c in range(len(x_CHW)):
        near = x_CHW[max(0, c - norm.size // 2) : c + norm.size // 2 + 1]
        out[c] = x_CHW[c] * (CONSTANT + norm.scale / norm.size * (near**2).sum(axis=0)) ** -norm.power
    return out


def within_map(x_CHW: Array, norm: Norm) -> Array:
    """The source divides `scale` by the size squared, also at the border."""
    out, reach = np.empty_like(x_CHW), norm.size // 2
    for y in range(x_CHW.shape[1]):
        for x in range(x_CHW.shape[2]):
            near = x_CHW[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            total = (near**2).sum(axis=(1, 2))
            out[:, y, x] = x_CHW[:, y, x] * (CONSTANT + norm.scale / norm.size**2 * total) ** -norm.power
    return out


def pool(x_CHW: Array) -> Array:
    """Sizes round up; the last window is cut off by the border."""
    side = 1 + -(-(x_CHW.shape[1] - POOL) // POOL_STRIDE)
    starts = [POOL_STRIDE * place for place in range(side)]
    rows = [[x_CHW[:, y : y + POOL, x : x + POOL].max(axis=(1, 2)) for x in starts] for y in starts]
    return np.moveaxis(np.array(rows), 2, 0)


def convolve(x_CHW: Array, weight_KCHW: Array, bias_K: Array, stride: int, before: int, after: int) -> Array:
    padded = np.pad(x_CHW, ((0, 0), (before, after), (before, after)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, weight_KCHW.shape[2:], axis=(1, 2))
    windows = windows[:, ::stride, ::stride]
    sums: Array = np.einsum("cyxhw,kchw->kyx", windows, weight_KCHW)
    return sums + bias_K[:, None, None]


def relu(x: Array) -> Array:
    return np.maximum(x, 0)


def first_two_layers(model: AlexNet, x_CHW: Array) -> Array:
    """`conv1a -> rnorm1a -> pool1a (relu)`, `conv2a (relu) -> rnorm2a -> cnorm2a -> pool2a`, in both towers."""
    weights = {name: value.numpy() for name, value in model.features.state_dict().items()}
    outputs = []
    for tower in (0, 1):
        half = [np.array_split(weights[f"conv{n}.{part}"], 2)[tower] for n in (1, 2) for part in ("weight", "bias")]
        after = (-(x_CHW.shape[1] - 11)) % 4  # 1 + ceil((size - 11) / 4) places
        conv1a = convolve(x_CHW, half[0], half[1], stride=4, before=0, after=after)
        pool1a = relu(pool(across_maps(conv1a, RNORM1A)))
        conv2a = relu(convolve(pool1a, half[2], half[3], stride=1, before=2, after=2))
        outputs.append(pool(within_map(across_maps(conv2a, RNORM2A), CNORM2A)))
    return np.concatenate(outputs)


def test_the_first_two_layers_are_those_of_the_released_source() -> None:
    model, x = build(), np.random.default_rng(0).normal(0, 60, (3, 63, 63))
    with torch.no_grad():
        found = model.features[: list(dict(model.features.named_children())).index("pool2") + 1](torch.tensor(x)[None])
    expected = first_two_layers(model, x)
    assert expected.std() > 0.1
    np.testing.assert_allclose(found[0].numpy(), expected, rtol=1e-9, atol=1e-9)


def test_the_layers_stand_in_the_order_of_the_released_source_with_its_numbers() -> None:
    model = build_model(RUN, 1000, 3)
    layers = dict(model.features.named_children())
    assert list(layers)[:9] == [
        "conv1", "norm1", "pool1", "relu1", "conv2", "relu2", "norm2", "mapnorm2", "pool2",
    ]  # fmt: skip
    for name, norm in (("norm1", RNORM1A), ("norm2", RNORM2A)):
        form: Any = layers[name].form
        assert (form.size, form.k, form.alpha * form.size, form.beta) == (norm.size, CONSTANT, norm.scale, norm.power)
        assert layers[name].groups == 2
    inner: Any = layers["mapnorm2"].form
    assert (inner.size, inner.k, inner.alpha, inner.beta) == (CNORM2A.size, CONSTANT, CNORM2A.scale, CNORM2A.power)
    assert [layer_of(model, f"features.conv{n}", nn.Conv2d).out_channels // 2 for n in (1, 2)] == list(
        FILTERS_OF_A_TOWER.values()
    )


def test_the_towers_on_two_devices_compute_the_same() -> None:
    model, x = build(), torch.randn(2, 3, 63, 63, dtype=torch.float64) * 60
    cpu = torch.device("cpu")
    towers = TowerNetwork(split_towers(model), DeviceLink((cpu, cpu))).eval()
    with torch.no_grad():
        torch.testing.assert_close(towers(x), model(x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("epoch", range(1, LAST_EPOCH + 1))
def test_every_epoch_of_the_diary_has_its_rates(epoch: int) -> None:
    _, weights, conv1, _ = max(line for line in DIARY if line[0] <= epoch)
    model = build()
    optimiser = build_optimiser(RUN, model)
    step = epoch - 1
    set_learning_rate(optimiser, learning_rate(RUN, step, 1), conv1_learning_rate(RUN, step, 1))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in optimiser.param_groups for p in group["params"]}
    for name, rate in rates.items():
        if name.startswith("features.conv1."):
            expected = conv1 if name.endswith("weight") else EPSB if conv1 else 0.0
        else:
            expected = weights if name.endswith("weight") else EPSB
        assert rate == pytest.approx(expected, rel=1e-12), name


def test_the_run_ends_with_its_last_epoch() -> None:
    assert RUN.epochs == LAST_EPOCH


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    generator = np.random.default_rng(0)
    base = generator.integers(0, 200, (40, 72, 72, 1))
    images = np.concatenate([base, base // 2 + generator.integers(0, 30, base.shape), 255 - base], axis=3)
    return write_pack(
        tmp_path_factory.mktemp("packs") / "colours", name="colours", class_names=("a", "b"), flip_safe=False,
        images_NHWC=images.astype(np.uint8), labels_N=np.arange(40) % 2,
        split_N=np.array([0] * 30 + [1] * 5 + [2] * 5, dtype=np.uint8),
    )  # fmt: skip


@pytest.mark.parametrize("overrides", [{}, {"shift_px": 1e-6}])  # the second changes a batch at once
def test_the_colour_noise_goes_by_deviations_and_is_added_to_what_has_no_mean(
    pack: Pack, overrides: dict[str, Any]
) -> None:
    """`noise = randn * color_stdevs * vecs`; then `x += noise*coeff; x /= 1+coeff` of images less their mean."""
    coeff = DIARY[0][3]
    config = RUN.with_overrides({"image_px": 72, "resize_px": 72, "random_crop": False, "flip": False} | overrides)
    preprocessing = Preprocessing.of(config, pack)
    images = torch.from_numpy(np.array(pack.images[:1])).expand(4000, -1, -1, -1)[:, 30:33, 30:33]
    preprocessing = preprocessing.model_copy(update={"image_px": 3, "resize_px": 3})
    change = Augmentation(config.model_copy(update={"image_px": 3, "resize_px": 3}), preprocessing, pack)
    draws = torch.from_numpy(draw_table(1, 0, 4000, config))
    x = change(images, draws, 0).double()
    plain = (images.double() - torch.tensor(preprocessing.mean)).permute(0, 3, 1, 2)
    noise = (x * (1 + coeff) - plain) / coeff
    centre = noise[:, :, 1, 1].numpy()
    assert np.ptp((noise - noise[:, :, 1:2, 1:2])[:, :, 1, :].numpy()) < 0.01  # one amount for a whole image
    pixels = pack.images[:30].reshape(-1, 3).astype(np.float64)
    covariance = np.cov(pixels.T, bias=True)  # of vecs @ diag(stdevs) @ randn it is that of the pixels again
    assert np.cov(centre.T) == pytest.approx(covariance, abs=0.08 * np.abs(covariance).max())
    assert abs(centre.mean()) < 0.1 * centre.std()


@pytest.mark.parametrize("epoch", [1, 66, 67, 91])
def test_the_colour_noise_ends_where_the_diary_says(pack: Pack, epoch: int) -> None:
    _, _, _, noise = max(line for line in DIARY if line[0] <= epoch)
    config = RUN.with_overrides({"image_px": 72, "resize_px": 72, "random_crop": False, "flip": False})
    preprocessing = Preprocessing.of(config, pack)
    images = torch.from_numpy(np.array(pack.images[:2]))
    changed = Augmentation(config, preprocessing, pack)(images, torch.rand(2, 10), epoch - 1)
    assert torch.equal(changed, preprocessing.to_input(images)) == (noise == 0)
