"""Reads a verified checkpoint as numpy arrays. Torch-free, so that a process that only serves stays small."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError

from alexnet_core.config import TrainConfig
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, ConfigError
from alexnet_core.layout import CLASSES, CONFIG, METADATA, PREPROCESSING, WEIGHTS
from alexnet_core.network.checkpoint_files import read_verified
from alexnet_core.network.geometry import weight_shapes
from alexnet_core.network.input_transform import InputTransform


@dataclass(frozen=True)
class StoredNetwork:
    """What a checkpoint holds for predictions."""

    config: TrainConfig
    class_names: tuple[str, ...]
    transform: InputTransform
    metadata: dict[str, Any]
    weights: dict[str, NDArray[np.float32]]  #: by the names of `geometry.weight_shapes`

    @property
    def weights_sha256(self) -> str:
        """Hash of names, types, shapes and values; empty for a checkpoint that does not name it."""
        return str(self.metadata.get("weights_sha256", ""))


def read_network(path: Path) -> StoredNetwork:
    """Read a checkpoint from exactly the bytes that were verified.

    Raises:
        CheckpointCorrupt: a file is missing, damaged or unreadable.
        CheckpointIncompatible: another version of this program wrote it, or its weights don't fit its config.
    """
    data = read_verified(path, state=False)
    try:
        network = StoredNetwork(
            config=TrainConfig.model_validate_json(data[CONFIG]),
            class_names=tuple(json.loads(data[CLASSES])),
            transform=InputTransform.model_validate_json(data[PREPROCESSING]),
            metadata=json.loads(data[METADATA]),
            weights=safetensors.numpy.load(data.pop(WEIGHTS)),
        )
    except (ValidationError, KeyError) as exc:
        raise CheckpointIncompatible(f"checkpoint {path} can't be understood by this version: {exc}") from exc
    except (ValueError, SafetensorError) as exc:
        raise CheckpointCorrupt(f"checkpoint {path} is damaged: {exc}") from exc
    _check_shapes(network, path)
    return network


def _check_shapes(network: StoredNetwork, path: Path) -> None:
    try:
        expected = weight_shapes(network.config, len(network.class_names), network.transform.channels)
    except ConfigError as exc:
        raise CheckpointIncompatible(f"the config of {path} describes no network: {exc}") from exc
    found = {name: values.shape for name, values in network.weights.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise CheckpointIncompatible(f"the weights of {path} don't fit its config: {', '.join(wrong[:4])}")
