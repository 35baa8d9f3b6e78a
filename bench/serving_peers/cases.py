"""The cases that are measured: an image and a network, with weights that are drawn and not trained."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image
from torch import Tensor

from alexnet_core.export.onnx import write_onnx
from alexnet_core.network.checkpoint import Checkpoint, save_checkpoint, weights_sha256
from alexnet_core.network.model import build_model
from alexnet_core.network.preprocess import Preprocessing
from alexnet_core.recipes import get_recipe
from bench.serving_peers.servers.classifier import GRAPH, WEIGHTS, Facts

SEED = 2012
CHECKPOINT = "checkpoint"
IMAGENET_MEAN = (123.675, 116.28, 103.53)
LOGIT_DEVIATION = 3.0  #: large enough for the classes to be told apart, as those of a trained network


@dataclass(frozen=True)
class Case:
    """An image that is sent again and again, and the network that classifies it."""

    title: str
    recipe: str
    overrides: dict[str, Any]
    num_classes: int
    width_px: int
    height_px: int
    image_format: str  #: as Pillow names it
    max_batch: int  #: images; PyTorch's local response norm makes batches of 64 photographs slower than those of 16

    @property
    def content_type(self) -> str:
        """The image's media type."""
        return f"image/{self.image_format.lower()}"


CASES = {
    "small": Case("32x32 PNG, notes-cifar10", "notes-cifar10", {}, 10, 32, 32, "PNG", 64),
    # 227 px, as the network's later descriptions say: the first convolution then fits without padding, so that
    # PyTorch's own layers compute the same
    "photo": Case("500x375 JPEG, paper-2012", "paper-2012", {"image_px": 227}, 1000, 500, 375, "JPEG", 16),
}


@dataclass(frozen=True)
class Material:
    """What a case needs on the disk: a checkpoint of ours, and the same network for the peers."""

    folder: Path
    image: bytes

    @property
    def checkpoint(self) -> Path:
        """A checkpoint of ours."""
        return self.folder / CHECKPOINT


def make_material(case: Case, folder: Path) -> Material:
    """Draw the image and the weights, always the same, and write them into an empty folder."""
    image = draw_image(case)
    checkpoint = draw_checkpoint(case, folder / CHECKPOINT)
    save_checkpoint(checkpoint)
    write_onnx(checkpoint, folder / GRAPH)
    safetensors.torch.save_file(plain_weights(checkpoint), folder / WEIGHTS)
    how = checkpoint.preprocessing
    facts = Facts(
        case.recipe,
        how.image_px,
        how.resize_px,
        list(how.mean),
        list(how.std),
        list(checkpoint.class_names),
        case.max_batch,
    )
    facts.write(folder)
    return Material(folder, image)


def draw_image(case: Case) -> bytes:
    """Draw a picture that is smooth in the large and noisy in the small, as a photograph is, and encode it."""
    random = np.random.default_rng(SEED)
    height, width = case.height_px, case.width_px
    picture = np.zeros((height, width, 3))
    for side in (2, 4, 8, 16):
        coarse = random.integers(0, 256, (side, side, 3), dtype=np.uint8)
        fine = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        picture += np.asarray(fine, dtype=np.float64) * (2 / side)
    picture = 255 * (picture - picture.min()) / np.ptp(picture) + random.normal(0, 10, picture.shape)
    encoded = io.BytesIO()
    Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(encoded, case.image_format, quality=90)
    return encoded.getvalue()


def draw_checkpoint(case: Case, path: Path) -> Checkpoint:
    """Draw the weights of an untrained network, with biases that matter and logits that differ."""
    config = get_recipe(case.recipe).config.with_overrides({"init": "he_normal", **case.overrides})
    torch.manual_seed(SEED)
    model = build_model(config, case.num_classes, 3).eval()
    how = Preprocessing(
        image_px=config.image_px,
        resize_px=config.resize_px,
        channels=3,
        mean=config.mean or IMAGENET_MEAN,
        std=config.std or (1.0,) * 3,
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.normal_(0, 0.1)
        picture_BHWC = torch.from_numpy(np.array(Image.open(io.BytesIO(draw_image(case)))))[None]
        last = model.get_submodule("classifier.fc8")
        scale = LOGIT_DEVIATION / model(how.to_input(picture_BHWC)).std()
        for parameter in last.parameters():
            parameter.mul_(scale)
    weights = {name: value.detach() for name, value in model.state_dict().items()}
    names = tuple(f"class {number}" for number in range(case.num_classes))
    metadata = {"weights_sha256": weights_sha256(weights), "job": "job_bench", "epoch": 1, "step": 1}
    return Checkpoint(path, config, names, how, json.loads(json.dumps(metadata)), weights, state={}, state_tensors={})


def plain_weights(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Return the weights for a network without dropout: what the dropout of 2012 halves is halved in the next layer."""
    weights = {name: value.contiguous() for name, value in checkpoint.weights.items()}
    if checkpoint.config.dropout_form == "2012":
        for name in ("classifier.fc7.weight", "classifier.fc8.weight"):
            weights[name] = weights[name] * (1 - checkpoint.config.dropout)
    return weights
