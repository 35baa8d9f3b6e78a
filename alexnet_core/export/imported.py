"""Makes checkpoints from weights that another program published: torchvision's and Caffe's AlexNet."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, ConfigError
from alexnet_core.export.caffe_reader import Array, read_layers, read_mean
from alexnet_core.export.torch_reader import read_tensors
from alexnet_core.network.checkpoint import Checkpoint, weights_sha256
from alexnet_core.network.geometry import weight_shapes
from alexnet_core.network.preprocess import Preprocessing

#: torchvision's names of the layers (models/alexnet.py), and ours.
_TORCHVISION_NAMES = {
    "features.0": "features.conv1",
    "features.3": "features.conv2",
    "features.6": "features.conv3",
    "features.8": "features.conv4",
    "features.10": "features.conv5",
    "classifier.1": "classifier.fc6",
    "classifier.4": "classifier.fc7",
    "classifier.6": "classifier.fc8",
}
#: What torchvision's weights were trained with (transforms of `AlexNet_Weights.IMAGENET1K_V1`), in units of 0..255.
TORCHVISION_MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
TORCHVISION_STD = (0.229 * 255, 0.224 * 255, 0.225 * 255)
_CAFFE_LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")  # of bvlc_alexnet


def import_torchvision(source: Path, config: TrainConfig, class_names: Sequence[str], target: Path) -> Checkpoint:
    """Return a checkpoint at `target`, not yet saved, with torchvision's AlexNet weights from a `.pth` file.

    Args:
        source: a state dict, as torchvision publishes it or `torch.save` writes it.
        config: the network; without a mean and std of its own it takes those of torchvision's published weights.
        class_names: in the order of the outputs.
        target: where the checkpoint will be.

    Raises:
        CheckpointCorrupt: the file can't be read.
        CheckpointIncompatible: its layers are not those of the network.
        OSError: there is no such file.
    """
    tensors = read_tensors(source)
    weights: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        layer, _, part = name.removeprefix("module.").rpartition(".")
        if layer not in _TORCHVISION_NAMES:
            raise CheckpointIncompatible(f"{source} has {name!r:.60}, which torchvision's AlexNet does not have")
        weights[f"{_TORCHVISION_NAMES[layer]}.{part}"] = tensor
    if config.mean is None and config.standardise == "mean_std":
        config = config.with_overrides({"channels": 3, "mean": TORCHVISION_MEAN, "std": TORCHVISION_STD})
    return _build(source, config, class_names, target, weights, _preprocess(config))


def import_caffe(
    source: Path, config: TrainConfig, class_names: Sequence[str], target: Path, *, mean: Path | None
) -> Checkpoint:
    """Return a checkpoint at `target`, not yet saved, from a `.caffemodel` with the layers of `bvlc_alexnet`.

    Caffe's images have the channels blue, green, red, so the channels of the first convolution and of the mean are
    reversed.

    Args:
        source: the model.
        config: the network.
        class_names: in the order of the outputs.
        target: where the checkpoint will be.
        mean: the mean image, a `.binaryproto`; None: the config's `mean` by channel (red, green, blue).

    Raises:
        CheckpointCorrupt: a file can't be read.
        CheckpointIncompatible: its layers are not those of the network, or its mean has not the size of the images.
        ConfigError: there is no mean.
        OSError: there is no such file.
    """
    layers = read_layers(source)
    if missing := [name for name in _CAFFE_LAYERS if len(layers.get(name, [])) != 2]:
        raise CheckpointIncompatible(
            f"{source} has no weights and biases named {', '.join(missing)}: it has {', '.join(layers)[:200]}"
        )
    weights: dict[str, Tensor] = {}
    for name in _CAFFE_LAYERS:
        block = "features" if name.startswith("conv") else "classifier"
        weight, bias = (torch.from_numpy(values) for values in layers[name])
        weights[f"{block}.{name}.weight"] = weight if block == "features" else weight.reshape(weight.shape[-2:])
        weights[f"{block}.{name}.bias"] = bias.flatten()
    weights["features.conv1.weight"] = weights["features.conv1.weight"].flip(1)
    preprocessing = _preprocess(config) if mean is None else _with_mean_image(config, read_mean(mean), mean)
    return _build(source, config, class_names, target, weights, preprocessing)


def _preprocess(config: TrainConfig) -> Preprocessing:
    channels = config.channels or 3
    std = config.std or (1.0,) * channels
    if config.mean is None or (config.std is None and config.standardise == "mean_std"):
        raise ConfigError(
            "the file does not say what was subtracted from the images: give a mean file, or override mean (and std), "
            "in units of 0..255",
            param="overrides.mean",
        )
    return Preprocessing(
        image_px=config.image_px, resize_px=config.resize_px, channels=channels, mean=config.mean, std=std
    )


def _with_mean_image(config: TrainConfig, mean_CHW: Array, source: Path) -> Preprocessing:
    side, channels = config.resize_px or config.image_px, config.channels or 3
    if mean_CHW.shape != (channels, side, side):
        raise CheckpointIncompatible(
            f"{source} is a mean of the shape {list(mean_CHW.shape)}, and the images have {[channels, side, side]}: "
            "override resize_px and channels"
        )
    values = np.ascontiguousarray(mean_CHW[::-1], dtype="<f4")
    if not np.isfinite(values).all():
        raise CheckpointCorrupt(f"{source} contains values that are not finite numbers")
    return Preprocessing(
        image_px=config.image_px, resize_px=config.resize_px, channels=channels, mean=(0.0,) * channels,
        std=(1.0,) * channels, mean_image=base64.b64encode(values.tobytes()).decode(),
    )  # fmt: skip


def _build(
    source: Path,
    config: TrainConfig,
    class_names: Sequence[str],
    target: Path,
    weights: Mapping[str, Tensor],
    preprocessing: Preprocessing,
) -> Checkpoint:
    outputs = weights.get("classifier.fc8.bias", torch.empty(0)).numel()
    if outputs != len(class_names):
        raise CheckpointIncompatible(f"{source} tells {outputs} classes apart, and {len(class_names)} are named")
    expected = weight_shapes(config, len(class_names), preprocessing.channels)
    found = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if wrong := [name for name in expected | found if expected.get(name) != found.get(name)]:
        raise CheckpointIncompatible(
            f"{wrong[0]} has the shape {found.get(wrong[0], 'of nothing')} in {source}, and "
            f"{expected.get(wrong[0], 'of nothing')} in the network: use the overrides that describe the file's network"
        )
    own = {name: weights[name].float().contiguous() for name in expected}
    if not all(bool(torch.isfinite(tensor).all()) for tensor in own.values()):
        raise CheckpointCorrupt(f"{source} contains weights that are not finite numbers")
    return Checkpoint(target, config, tuple(class_names), preprocessing, import_metadata(config, own, source), own)


def import_metadata(config: TrainConfig, weights: Mapping[str, Tensor], source: Path) -> dict[str, object]:
    """Return the metadata of a checkpoint whose weights come from another program's file."""
    return {
        "format_version": 1, "kind": "import", "job_id": None, "lease_epoch": 0, "epoch": 0, "step": 0,
        "metrics": None, "dataset": None, "dataset_digest": None, "weights_sha256": weights_sha256(weights), "seed": 0,
        "environment": None, "validate_on": config.validate_on, "imported_from": source.name,
    }  # fmt: skip
