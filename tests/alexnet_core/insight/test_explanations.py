"""What speaks for a class, on networks and images where the answer is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.insight.explanations import explain, scale
from alexnet_core.insight.methods import Method
from alexnet_core.insight.named_layers import compute_layer
from tests.alexnet_core.networks import layer_of, make_checkpoint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor.of(make_checkpoint("quick", norm="none", width_multiplier=0.5))


def noise(side: int = 24, channels: int = 3) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (side, side, channels)).astype(np.uint8)


def logit(predictor: Predictor, x: torch.Tensor, target: int) -> float:
    return float(predictor.logits(x[None])[0, target])


def test_integrated_gradients_add_up_to_what_the_image_changes(predictor: Predictor) -> None:
    """Sundararajan et al. 2017, proposition 1: completeness."""
    image = noise()
    x = predictor.preprocess(image)
    for target in (0, 3):
        expected = logit(predictor, x, target) - logit(predictor, torch.zeros_like(x), target)
        found = explain(predictor, image, Method.INTEGRATED_GRADIENTS, target).values.sum()
        assert found == pytest.approx(expected, abs=0.02 * abs(expected) + 0.02)


def test_occlusion_is_what_the_answer_loses_without_a_part(predictor: Predictor) -> None:
    """The pixel in the corner is hidden by one window only."""
    image = noise()
    x = predictor.preprocess(image)
    window = 24 // 6
    hidden = x.clone()
    hidden[:, :window, :window] = 0
    expected = logit(predictor, x, 2) - logit(predictor, hidden, 2)
    found = explain(predictor, image, Method.OCCLUSION, 2).values[0, 0]
    assert found == pytest.approx(expected, abs=1e-4)


def test_grad_cam_is_the_maps_weighted_by_their_mean_gradients(predictor: Predictor) -> None:
    """Selvaraju et al. 2017, equations 1 and 2, computed by hand."""
    image = noise()
    x = predictor.preprocess(image)[None].requires_grad_(True)
    maps = predictor.model.features[:-1](x)
    maps.retain_grad()
    predictor.model.classifier(predictor.model.features[-1](maps).flatten(1))[0, 4].backward()
    assert maps.grad is not None
    coarse = (maps * maps.grad.mean(dim=(2, 3), keepdim=True)).sum(dim=1, keepdim=True).relu().detach()
    expected = torch.nn.functional.interpolate(coarse, (24, 24), mode="bilinear", align_corners=False)[0, 0]
    found = explain(predictor, image, Method.GRAD_CAM, 4)
    assert expected.max() > 0
    assert np.allclose(found.values, expected.numpy(), atol=1e-4)


@pytest.mark.parametrize("method", [Method.INTEGRATED_GRADIENTS, Method.OCCLUSION])
def test_a_network_that_reads_a_corner_is_explained_by_that_corner(method: Method) -> None:
    """The first layer after the pools reads only the first place of its maps. Grad-CAM weights whole maps."""
    predictor = Predictor.of(make_checkpoint("quick", norm="none", image_px=64))
    side = compute_layer(predictor.model, torch.zeros(1, 3, 64, 64), "pool5").shape[2]
    fc6 = layer_of(predictor.model, "classifier.fc6", torch.nn.Linear)
    with torch.no_grad():
        weight = fc6.weight.view(fc6.weight.shape[0], -1, side, side)
        weight[:, :, 1:, :] = 0
        weight[:, :, :, 1:] = 0
    target = int(predictor.logits(predictor.preprocess(noise(64))[None]).argmax())
    heat = np.abs(explain(predictor, noise(64), method, target).heat)
    assert heat[:32, :32].sum() > 0
    assert heat[48:, 48:].sum() < 0.05 * heat[:32, :32].sum()


@pytest.mark.parametrize("method", list(Method))
@pytest.mark.parametrize("recipe", ["paper-2012-run", "torchvision", "notes-cifar10"])
def test_every_recipe_can_be_explained(recipe: str, method: Method) -> None:
    size = {} if recipe == "notes-cifar10" else {"image_px": 96, "resize_px": 100}
    predictor = Predictor.of(make_checkpoint(recipe, width_multiplier=0.05, **size))
    found = explain(predictor, noise(120), method, 1)
    assert found.heat.shape == (predictor.preprocessing.image_px,) * 2
    assert np.isfinite(found.heat).all()
    assert np.abs(found.heat).max() <= 1


def test_the_same_image_gives_the_same_explanation_and_the_weights_stay(predictor: Predictor) -> None:
    before = {name: values.clone() for name, values in predictor.model.state_dict().items()}
    first = explain(predictor, noise(), Method.INTEGRATED_GRADIENTS, 0)
    assert np.array_equal(first.heat, explain(predictor, noise(), Method.INTEGRATED_GRADIENTS, 0).heat)
    assert all(torch.equal(before[name], values) for name, values in predictor.model.state_dict().items())


def test_single_pixels_do_not_pale_the_others() -> None:
    values = np.ones((20, 20), np.float32)
    values[0, 0] = -1000
    heat = scale(values)
    assert (heat[0, 0], heat[5, 5]) == (-1, 1)
    assert not scale(np.zeros((4, 4), np.float32)).any()
    assert not scale(np.full((4, 4), np.nan, np.float32)).any()
