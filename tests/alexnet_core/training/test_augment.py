"""Changes to training images, and what training and prediction make of the same pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import affine_transform
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.errors import ConfigError
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.recipes import get_recipe
from alexnet_core.training.augment import Augmentation, draw_table, erase, transform

BASE = TrainConfig(
    widths=(4, 4, 4, 4, 4), kernels=(3, 3, 3, 3, 3), fc_widths=(8, 8), image_px=16, batch_size=8, epochs=1,
)  # fmt: skip


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    generator = np.random.default_rng(0)
    base = generator.integers(0, 200, (60, 20, 20, 1))
    images = np.concatenate([base, base // 2 + generator.integers(0, 30, base.shape), 255 - base], axis=3)
    return write_pack(
        Path(tmp_path_factory.mktemp("pack")) / "colours",
        name="colours",
        class_names=("a", "b"),
        images_NHWC=images.astype(np.uint8),
        labels_N=np.arange(60) % 2,
        split_N=np.array([0] * 40 + [1] * 10 + [2] * 10, dtype=np.uint8),
        flip_safe=True,
    )


def load(pack: Pack, count: int = 60) -> Tensor:
    return torch.from_numpy(np.array(pack.images[:count]))


def augmentation(pack: Pack, **overrides: Any) -> tuple[Augmentation, TrainConfig, Preprocessing]:
    config = BASE.with_overrides(overrides)
    preprocessing = Preprocessing.of(config, pack)
    return Augmentation(config, preprocessing, pack), config, preprocessing


def test_without_changes_training_sees_what_prediction_sees(pack: Pack) -> None:
    for overrides in (
        {},
        {"resize_px": 20},
        {"resize_px": 24},
        {"channels": 1},
        {"standardise": "mean"},
        {"standardise": "pixel_mean"},
    ):
        change, config, preprocessing = augmentation(pack, **overrides)
        draws = torch.from_numpy(draw_table(0, 0, 60, config))
        assert torch.equal(change(load(pack), draws, 0), preprocessing.to_input(load(pack))), overrides


@pytest.mark.parametrize(
    "overrides",
    [
        {"flip": True, "shift_px": 2.0, "rotate_deg": 10.0, "scale": 0.1},
        {"resize_px": 20, "random_crop": True, "colour_std": 0.1, "flip": True},
        {"erase": 0.5},
        {"random_resized_crop": 0.08, "flip": True},
    ],
)
def test_an_image_gets_its_changes_whatever_its_batch(pack: Pack, overrides: dict[str, Any]) -> None:
    change, config, _ = augmentation(pack, **overrides)
    draws = torch.from_numpy(draw_table(3, 1, 60, config))
    together = change(load(pack), draws, 0)
    assert torch.equal(together[5:7], change(load(pack)[5:7], draws[5:7], 0))
    assert not torch.equal(together, change(load(pack), torch.from_numpy(draw_table(3, 2, 60, config)), 0))


@pytest.mark.parametrize(
    "overrides",
    [
        {},
        {"flip": True},
        {"resize_px": 20, "random_crop": True},
        {"resize_px": 24, "random_crop": True, "colour_std": 0.1, "flip": True},
        {"resize_px": 20, "colour_std": 0.1, "colour_form": "2012_code", "standardise": "mean"},
        {"resize_px": 20, "random_crop": True, "channels": 1, "flip": True},
        {"flip": True, "erase": 0.5},
        {"resize_px": 20, "random_crop": True, "standardise": "pixel_mean", "flip": True, "colour_std": 0.1},
        {"random_resized_crop": 0.1, "flip": True, "colour_std": 0.1},
    ],
)
def test_one_image_at_a_time_gives_the_values_of_a_whole_batch(
    pack: Pack, overrides: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    change, config, _ = augmentation(pack, **overrides)
    draws = torch.from_numpy(draw_table(3, 1, 60, config))
    one_by_one = change(load(pack), draws, 0)
    assert one_by_one.is_contiguous(memory_format=torch.channels_last)
    monkeypatch.setattr("alexnet_core.training.augment._suits_one_by_one", lambda *_: False)
    assert torch.equal(change(load(pack), draws, 0), one_by_one)


def test_a_flip_mirrors_about_half(pack: Pack) -> None:
    config = BASE.with_overrides({"flip": True})
    x = torch.randn(1000, 1, 4, 4)
    draws = torch.from_numpy(draw_table(0, 0, 1000, config))
    changed = transform(x, draws, config)
    mirrored = (changed == x.flip(3)).all(dim=(1, 2, 3))
    assert bool((mirrored | (changed == x).all(dim=(1, 2, 3))).all())
    assert 440 < int(mirrored.sum()) < 560


def test_a_whole_pixel_shift_moves_pixels_and_fills_with_zero() -> None:
    config = BASE.with_overrides({"shift_px": 4.0})
    x = torch.arange(64.0).reshape(1, 1, 8, 8) + 1
    draws = torch.full((1, 5), 0.5)
    draws[0, 1] = 0.5 + 2 / 8  # two pixels of the four
    shifted = transform(x, draws, config)
    torch.testing.assert_close(shifted[..., :6], x[..., 2:], atol=1e-4, rtol=0)
    assert bool((shifted[..., 6:] == 0).all())


@pytest.mark.parametrize("flip", [False, True])
def test_a_cut_border_is_that_of_scipys_ndimage_and_so_of_keras(flip: bool) -> None:
    """Keras shifts by `scipy.ndimage.affine_transform` with order 1 and a constant beyond the last pixel's centre."""
    config = BASE.with_overrides({"shift_px": 4.0, "border": "cut", "flip": flip})
    assert get_recipe("notes-cifar10").config.border == "cut"
    x = torch.randn(300, 3, 32, 32)
    draws = torch.from_numpy(draw_table(0, 0, 300, config))
    found, blended = transform(x, draws, config), transform(x, draws, config.with_overrides({"border": "blend"}))
    shifts = (draws[:, 1:3].double() * 2 - 1) * 4  # along a row, along a column
    mirrored = (draws[:, 0] < 0.5) & flip
    expected = torch.empty_like(x)
    for image, (right, down), mirror, target in zip(x, shifts.tolist(), mirrored.tolist(), expected, strict=True):
        source, sign = (image.flip(2), -1) if mirror else (image, 1)
        for channel, out in zip(source, target, strict=True):
            offset = [down, right * sign]
            moved = affine_transform(channel.double().numpy(), np.eye(2), offset, order=1, mode="constant", cval=0.0)
            out.copy_(torch.from_numpy(moved))
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)
    differ = (blended - expected).abs().amax(dim=1).gt(2e-4).flatten(1).sum(dim=1).double().mean()
    assert 50 < float(differ) < 64  # of 1,024 pixels: a line each way, where the other one is inside


def test_a_shift_by_whole_pixels_loses_no_line_to_a_cut_border() -> None:
    for border in ("blend", "cut"):
        config = BASE.with_overrides({"shift_px": 3.0, "shift_whole": True, "border": border})
        x = torch.rand(500, 1, 30, 30) + 0.5
        moved = transform(x, torch.from_numpy(draw_table(0, 0, 500, config)), config)
        covered = (moved > 0.4).sum(dim=(1, 2, 3))
        assert set(covered.tolist()) == {(30 - a) * (30 - b) for a in range(4) for b in range(4)}


def test_whole_shifts_keep_images_sharp_and_reach_every_place_equally_often() -> None:
    config = BASE.with_overrides({"shift_px": 2.5, "shift_whole": True})
    x = torch.zeros(5000, 1, 9, 9)
    x[:, :, 4, 4] = 1
    shifted = transform(x, torch.from_numpy(draw_table(1, 0, 5000, config)), config)
    brightest = shifted.flatten(1).max(dim=1)
    torch.testing.assert_close(brightest.values, torch.ones(5000), atol=1e-4, rtol=0)
    counts = torch.bincount(brightest.indices, minlength=81).view(9, 9)
    assert int(counts[2:7, 2:7].sum()) == 5000  # two pixels each way, never three
    assert 140 < int(counts[2:7, 2:7].min()) <= int(counts.max()) < 260


def test_whole_shifts_of_less_than_a_pixel_are_refused() -> None:
    with pytest.raises(ConfigError, match="shift_whole needs a shift_px of at least 1, not"):
        BASE.with_overrides({"shift_px": 0.5, "shift_whole": True})


def test_erasing_takes_one_rectangle_of_the_published_sizes_from_as_many_images_as_it_is_told() -> None:
    config = BASE.with_overrides({"erase": 0.25})
    draws = torch.from_numpy(draw_table(1, 0, 4000, config))
    erased = erase(torch.ones(4000, 2, 40, 40), draws, config.erase) == 0
    assert torch.equal(erased[:, 0], erased[:, 1])  # in all channels alike
    erased = erased[:, 0]
    rows, columns = erased.any(dim=2), erased.any(dim=1)
    assert torch.equal(erased, rows[:, :, None] & columns[:, None, :])
    heights, widths = rows.sum(dim=1), columns.sum(dim=1)
    for side in (rows, columns):  # one piece: it begins once
        assert int((side[:, 1:] & ~side[:, :-1]).sum(dim=1).add(side[:, 0]).max()) == 1
    chosen = heights > 0
    assert 900 < int(chosen.sum()) < 1100
    areas, shapes = heights[chosen] * widths[chosen] / 1600, heights[chosen] / widths[chosen]
    assert 0.014 < float(areas.min()) < 0.04
    assert 0.36 < float(areas.max()) < 0.42
    assert 0.25 < float(shapes.min()) < 0.4
    assert 2.5 < float(shapes.max()) < 4
    assert bool(erased.any(dim=0).all())  # every place, the corners too


def test_a_rectangle_that_is_longer_than_the_image_ends_at_its_sides() -> None:
    draws = torch.zeros(1, 15)
    draws[0, 11:13] = 0.9999  # the largest, and the highest
    erased = erase(torch.ones(1, 1, 8, 8), draws, 1.0)[0, 0] == 0
    assert int(erased[:, 0].sum()) == 8
    assert int(erased.sum()) == 8 * 3


def test_erasing_leaves_the_other_draws_as_they_were(pack: Pack) -> None:
    for overrides in ({"flip": True}, {"resize_px": 20, "random_crop": True}):
        config = BASE.with_overrides(overrides)
        table = draw_table(3, 1, 60, config)
        with_erasing = draw_table(3, 1, 60, config.with_overrides({"erase": 0.5}))
        assert np.array_equal(with_erasing[:, : table.shape[1]], table)


def test_crops_are_places_of_the_resized_image_and_reach_every_one(pack: Pack) -> None:
    change, config, preprocessing = augmentation(pack, resize_px=20, random_crop=True)
    image = load(pack, 1).expand(400, -1, -1, -1)
    found = change(image, torch.from_numpy(draw_table(1, 0, 400, config)), 0)
    whole = preprocessing.standardise(preprocessing.finish(preprocessing.resize(image[:1])))[0]
    places = {(y, x): whole[:, y : y + 16, x : x + 16] for y in range(5) for x in range(5)}
    seen = set()
    for crop in found:
        matches = [place for place, pixels in places.items() if torch.equal(crop, pixels)]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 25


def test_resized_crops_have_the_areas_and_shapes_of_torchvisions(pack: Pack) -> None:
    """Read off a ramp: after resizing, its steps tell which rows and columns a part had."""
    change, config, _ = augmentation(pack, random_resized_crop=0.08, mean=(0.0,) * 3, std=(1.0,) * 3, channels=3)
    ramp = torch.arange(200, dtype=torch.uint8)
    across, down = ramp[None, :].expand(200, 200), ramp[:, None].expand(200, 200)
    image = torch.stack([across, down, across], dim=2)[None].expand(2000, -1, -1, -1)
    x = change(image, torch.from_numpy(draw_table(1, 0, 2000, config)), 0)
    assert x.shape == (2000, 3, 16, 16)
    steps = torch.stack([x[:, 0, 8, 12] - x[:, 0, 8, 4], x[:, 1, 12, 8] - x[:, 1, 4, 8]], dim=1) * 2  # half of a side
    widths, heights = steps[:, 0], steps[:, 1]
    areas, shapes = widths * heights / 200**2, widths / heights
    assert 0.06 < float(areas.min()) < 0.1
    assert 0.95 < float(areas.max()) < 1.02
    inside = (widths < 199) & (heights < 199)
    assert 0.73 < float(shapes[inside].min()) < 0.78
    assert 1.28 < float(shapes[inside].max()) < 1.36
    assert abs(float(shapes[areas < 0.5].log().mean())) < 0.03  # either way equally often
    assert abs(float(areas.mean()) - 0.54) < 0.02  # uniform from .08 to 1
    middle = x[:, 0, 8, 7:9].mean(dim=1)
    assert abs(float(middle.mean()) - 99.5) < 3  # every place


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"random_crop": True, "resize_px": 20, "random_resized_crop": 0.1}, "leave one of them out"),
        ({"random_resized_crop": 0.1, "standardise": "pixel_mean"}, "use mean"),
        ({"random_resized_crop": 0.0}, "random_resized_crop is 0"),
        ({"standardise": "pixel_mean", "std": (1.0,)}, "std has no effect if standardise is pixel_mean"),
        ({"standardise": "pixel_mean", "mean": (1.0,)}, "mean has no effect if standardise is pixel_mean"),
    ],
)
def test_what_makes_no_sense_with_crops_and_means_is_refused(overrides: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        BASE.with_overrides(overrides)


@pytest.mark.parametrize("overrides", [{"image_px": 20}, {"resize_px": 20}, {"resize_px": 24}, {"channels": 1}])
def test_the_mean_of_each_pixel_is_subtracted_before_anything_is_cut_out(pack: Pack, overrides: dict[str, Any]) -> None:
    preprocessing = Preprocessing.of(BASE.with_overrides({"standardise": "pixel_mean"} | overrides), pack)
    whole = preprocessing.model_copy(update={"mean_image": None})
    images = load(pack)
    resized = whole.finish(whole.resize(images))
    mean = resized[:40].double().mean(dim=0).float()  # of the training images
    expected = whole.cut_centre(resized - mean)
    torch.testing.assert_close(preprocessing.to_input(images), expected, rtol=0, atol=1e-4)
    again = Preprocessing.model_validate_json(preprocessing.model_dump_json())
    assert torch.equal(again.to_input(images), preprocessing.to_input(images)), "as from a checkpoint"
    assert torch.equal(preprocessing.to_input(images[5:6])[0], preprocessing.to_input(images)[5])
    views = preprocessing.to_ten_crops(images[:2])
    assert torch.equal(views[0], preprocessing.to_input(images[:2]))


def test_crops_of_training_images_are_less_the_means_of_their_own_pixels(pack: Pack) -> None:
    change, config, preprocessing = augmentation(pack, resize_px=20, random_crop=True, standardise="pixel_mean")
    found = change(load(pack), torch.from_numpy(draw_table(1, 0, 60, config)), 0)
    whole = preprocessing.subtract_image(preprocessing.resize(load(pack)))
    for crop, image in zip(found, whole, strict=True):
        places = [image[:, y : y + 16, x : x + 16] for y in range(5) for x in range(5)]
        assert sum(torch.equal(crop, place) for place in places) == 1


def test_a_mean_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match="is none of 3 channels and 16 px"):
        Preprocessing(image_px=16, channels=3, mean=(0.0,) * 3, std=(1.0,) * 3, mean_image="AAAA")


def test_colour_noise_lies_along_the_principal_colours_with_their_variance(pack: Pack) -> None:
    change, config, preprocessing = augmentation(pack, colour_std=0.1)
    plain = torch.full((1, 1, 1, 3), 128, dtype=torch.uint8).expand(5000, 16, 16, -1)
    x = change(plain, torch.from_numpy(draw_table(1, 0, 5000, config)), 0) - preprocessing.to_input(plain)
    shifts = (x[:, :, 0, 0] * torch.tensor(preprocessing.std)).numpy()
    assert np.ptp((x - x[:, :, :1, :1]).numpy()) < 1e-5  # one shift for a whole image
    covariance = np.asarray(pack.covariance) / 255**2
    expected = 0.1**2 * covariance @ covariance * 255**2  # sum of p p^T (0.1 variance)^2
    assert np.cov(shifts.T) == pytest.approx(expected, abs=0.08 * np.abs(expected).max())


def test_colours_stay_from_the_epoch_on_that_the_config_names(pack: Pack) -> None:
    change, config, preprocessing = augmentation(pack, colour_std=0.1, colour_until_epoch=3)
    draws = torch.from_numpy(draw_table(0, 0, 60, config))
    assert not torch.equal(change(load(pack), draws, 2), preprocessing.to_input(load(pack)))
    assert torch.equal(change(load(pack), draws, 3), preprocessing.to_input(load(pack)))


def test_the_code_of_2012_divides_what_has_no_mean(pack: Pack) -> None:
    change, config, _ = augmentation(pack, colour_std=0.25, colour_form="2012_code")
    still, _, _ = augmentation(pack, colour_std=0.25, colour_form="2012_code", colour_until_epoch=0)
    draws = torch.from_numpy(draw_table(0, 0, 60, config))
    middle = torch.full((60, 10), 0.5)  # draws of no noise
    torch.testing.assert_close(change(load(pack), middle, 0) * 1.25, still(load(pack), middle, 0), rtol=1e-5, atol=1e-5)
    noise = change(load(pack), draws, 0) * 1.25 - still(load(pack), draws, 0)
    assert float((noise - noise[:, :, :1, :1]).abs().max()) < 1e-4
    assert float(noise.abs().max()) > 0.1


def test_the_packs_statistics_are_those_of_its_training_pixels(pack: Pack) -> None:
    pixels = pack.images[:40].reshape(-1, 3).astype(np.float64)
    assert np.asarray(pack.mean) == pytest.approx(pixels.mean(axis=0), rel=1e-12)
    assert np.asarray(pack.std) == pytest.approx(pixels.std(axis=0), rel=1e-10)
    assert np.asarray(pack.covariance) == pytest.approx(np.cov(pixels.T, bias=True), rel=1e-9)


def test_ten_crops_are_centre_corners_and_their_mirror_images(pack: Pack) -> None:
    preprocessing = Preprocessing.of(BASE.with_overrides({"resize_px": 20}), pack)
    views = preprocessing.to_ten_crops(load(pack, 2))
    whole = preprocessing.standardise(preprocessing.finish(preprocessing.resize(load(pack, 2))))
    for view, (top, left) in zip(views, [(2, 2), (0, 0), (0, 4), (4, 0), (4, 4)], strict=False):
        assert torch.equal(view, whole[:, :, top : top + 16, left : left + 16])
    assert views.shape == (10, 2, 3, 16, 16)
    assert torch.equal(views[5:], views[:5].flip(4))
    assert torch.equal(views[0], preprocessing.to_input(load(pack, 2)))


def test_ten_crops_of_a_network_that_sees_the_whole_image_are_cut_from_a_frame_of_the_mean(pack: Pack) -> None:
    preprocessing = Preprocessing.of(BASE, pack)
    x = preprocessing.to_input(load(pack, 2))
    views = preprocessing.to_ten_crops(load(pack, 2))
    assert views.shape == (10, 2, 3, 16, 16)
    assert torch.equal(views[0], x)
    down_right, up_left = views[1], views[4]
    assert torch.equal(down_right[:, :, 1:, 1:], x[:, :, :15, :15])
    assert torch.equal(up_left[:, :, :15, :15], x[:, :, 1:, 1:])
    for edge in (down_right[:, :, 0], down_right[:, :, :, 0], up_left[:, :, 15], up_left[:, :, :, 15]):
        assert bool((edge == 0).all())
    assert torch.equal(views[5:], views[:5].flip(4))
