"""Weights of torchvision and Caffe: the imported network answers as the one that they are of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.__main__ import main
from alexnet_core.data.images import decode_image
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, ConfigError
from alexnet_core.evaluation.predictor import Predictor
from alexnet_core.export.imported import import_caffe, import_torchvision
from alexnet_core.network.checkpoint import load_checkpoint, save_checkpoint
from alexnet_core.recipes import get_recipe
from tests.alexnet_core.export.caffe_files import blob, model

CLASSES = ("a", "b", "c")
TORCHVISION, CAFFE = get_recipe("torchvision").config, get_recipe("caffe").config


def state_dict(num_classes: int = 3) -> tuple[torchvision.models.AlexNet, dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    network = torchvision.models.alexnet(num_classes=num_classes).eval()
    return network, network.state_dict()


def photo(path: Path, width: int = 300, height: int = 280) -> NDArray[np.uint8]:
    pixels = np.random.default_rng(1).integers(0, 256, (height // 20, width // 20, 3)).astype(np.uint8)
    image = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    image.save(path)
    return np.asarray(image)


def test_torchvisions_weights_answer_as_torchvision_does_with_its_own_transforms(tmp_path: Path) -> None:
    network, weights = state_dict()
    torch.save(weights, tmp_path / "alexnet.pth")
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    command = ["import-torchvision", str(tmp_path / "alexnet.pth"), "--classes-file", str(tmp_path / "classes.txt")]
    assert main([*command, "--out", str(tmp_path / "made")]) == 0
    checkpoint = load_checkpoint(tmp_path / "made")
    assert sum(tensor.numel() for tensor in checkpoint.weights.values()) == 61_100_840 - 997 * 4097
    predictor = Predictor.of(checkpoint)
    x_BCHW = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        torch.testing.assert_close(predictor.logits(x_BCHW), network(x_BCHW), rtol=0, atol=1e-5)
    pixels = photo(tmp_path / "photo.png")
    transforms = torchvision.models.AlexNet_Weights.IMAGENET1K_V1.transforms(antialias=True)
    theirs = transforms(torch.from_numpy(pixels.copy()).permute(2, 0, 1))
    ours = predictor.preprocess(decode_image((tmp_path / "photo.png").read_bytes()))
    difference = (ours - theirs).abs()  # theirs rounds resized pixels, and resizes before it cuts the square
    assert float(difference.mean()) < 0.01
    assert float(difference.max()) < 0.1
    assert main([*command, "--out", str(tmp_path / "made")]) == 1, "a folder that is there is not replaced"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"features.0.weight": torch.zeros(64, 3, 7, 7)}, "features.conv1.weight has the shape"),
        ({"features.1.weight": torch.zeros(64)}, "which torchvision's AlexNet does not have"),
        ({"classifier.6.weight": torch.full((3, 4096), torch.nan)}, "not finite numbers"),
        ({"classifier.6.bias": torch.zeros(4)}, "tells 4 classes apart, and 3 are named"),
        ({"classifier.6.weight": None}, "has the shape of nothing"),
    ],
)
def test_another_networks_weights_are_refused(
    tmp_path: Path, change: dict[str, torch.Tensor | None], says: str
) -> None:
    weights = {name: value for name, value in {**state_dict()[1], **change}.items() if value is not None}
    torch.save(weights, tmp_path / "a.pth")
    with pytest.raises((CheckpointIncompatible, CheckpointCorrupt), match=says):
        import_torchvision(tmp_path / "a.pth", TORCHVISION, CLASSES, tmp_path / "made")


def caffe_layers() -> dict[str, list[NDArray[np.float32]]]:
    """Weights of a narrow `bvlc_alexnet` in Caffe's order: conv1 reads blue, green, red."""
    draw = np.random.default_rng(2)
    shapes = {
        "conv1": (16, 3, 11, 11), "conv2": (16, 8, 5, 5), "conv3": (16, 16, 3, 3), "conv4": (16, 8, 3, 3),
        "conv5": (8, 8, 3, 3), "fc6": (24, 288), "fc7": (24, 24), "fc8": (3, 24),
    }  # fmt: skip
    return {
        name: [
            draw.normal(0, (2 / np.prod(shape[1:])) ** 0.5, shape).astype(np.float32),
            draw.normal(0, 0.1, shape[0]).astype(np.float32),
        ]
        for name, shape in shapes.items()
    }


NARROW = CAFFE.with_overrides({"widths": [16, 16, 16, 16, 8], "fc_widths": [24, 24]})


def caffes_answer(layers: dict[str, list[NDArray[np.float32]]], bgr_CHW: torch.Tensor) -> torch.Tensor:
    """train_val.prototxt of bvlc_alexnet, layer by layer, of an image whose mean is subtracted, (3, 227, 227)."""
    w = {name: (torch.from_numpy(weight), torch.from_numpy(bias)) for name, (weight, bias) in layers.items()}
    x = bgr_CHW[None]
    x = F.conv2d(x, *w["conv1"], stride=4).relu()
    x = F.max_pool2d(F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0), 3, 2, ceil_mode=True)
    x = F.conv2d(x, *w["conv2"], padding=2, groups=2).relu()
    x = F.max_pool2d(F.local_response_norm(x, 5, alpha=1e-4, beta=0.75, k=1.0), 3, 2, ceil_mode=True)
    x = F.conv2d(x, *w["conv3"], padding=1).relu()
    x = F.conv2d(x, *w["conv4"], padding=1, groups=2).relu()
    x = F.conv2d(x, *w["conv5"], padding=1, groups=2).relu()
    x = F.max_pool2d(x, 3, 2, ceil_mode=True).flatten(1)
    x = F.linear(F.linear(x, *w["fc6"]).relu(), *w["fc7"]).relu()
    return F.linear(x, *w["fc8"])


@pytest.mark.parametrize("old", [True, False])
def test_caffes_weights_answer_as_caffe_does_for_blue_green_red_images_less_their_mean(
    tmp_path: Path, old: bool
) -> None:
    layers, mean = caffe_layers(), np.random.default_rng(3).uniform(90, 130, (3, 256, 256)).astype(np.float32)
    (tmp_path / "a.caffemodel").write_bytes(model({"data": [], **layers, "prob": []}, old=old))
    (tmp_path / "mean.binaryproto").write_bytes(blob(mean[None], old=True))
    command = ["import-caffe", str(tmp_path / "a.caffemodel"), "--mean", str(tmp_path / "mean.binaryproto")]
    narrow = ["--override", "widths=[16,16,16,16,8]", "--override", "fc_widths=[24,24]"]
    assert main([*command, *narrow, "--classes", *CLASSES, "--out", str(tmp_path / "made")]) == 0
    predictor = Predictor.load(tmp_path / "made")
    pixels = photo(tmp_path / "photo.png", 256, 256)
    bgr_CHW = torch.from_numpy(pixels[:, :, ::-1].copy()).permute(2, 0, 1).float() - torch.from_numpy(mean)
    expected = caffes_answer(layers, bgr_CHW[:, 14:241, 14:241])
    found = predictor.logits(predictor.preprocess(pixels)[None])
    assert float(expected.std()) > 1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-3)


def test_a_model_without_a_mean_file_takes_a_mean_by_channel(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(model(caffe_layers(), old=True))
    with pytest.raises(ConfigError, match="give a mean file, or override mean"):
        import_caffe(tmp_path / "a", NARROW, CLASSES, tmp_path / "made", mean=None)
    config = NARROW.with_overrides({"mean": [123.0, 117.0, 104.0]})
    made = save_checkpoint(import_caffe(tmp_path / "a", config, CLASSES, tmp_path / "made", mean=None))
    assert load_checkpoint(made.path).preprocessing.mean == (123.0, 117.0, 104.0)


def test_a_mean_of_another_size_and_missing_layers_are_refused(tmp_path: Path) -> None:
    layers = caffe_layers()
    (tmp_path / "a").write_bytes(model(layers, old=True))
    (tmp_path / "mean").write_bytes(blob(np.ones((1, 3, 100, 100), np.float32), old=True))
    with pytest.raises(CheckpointIncompatible, match=r"shape \[3, 100, 100\]"):
        import_caffe(tmp_path / "a", NARROW, CLASSES, tmp_path / "made", mean=tmp_path / "mean")
    del layers["conv4"]
    (tmp_path / "a").write_bytes(model(layers, old=True))
    with pytest.raises(CheckpointIncompatible, match="named conv4"):
        import_caffe(tmp_path / "a", NARROW, CLASSES, tmp_path / "made", mean=None)
