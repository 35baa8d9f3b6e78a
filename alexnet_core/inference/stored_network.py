"""Reads a verified checkpoint as numpy arrays. Torch-free, so that a process that only serves stays small."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from alexnet_core.config import TrainConfig
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, ConfigError
from alexnet_core.inference.mapped_file import Scratch
from alexnet_core.layout import CLASSES, CONFIG, METADATA, PREPROCESSING, WEIGHTS
from alexnet_core.network.checkpoint_files import copy_file, read_file, read_manifest
from alexnet_core.network.geometry import weight_shapes
from alexnet_core.network.input_transform import InputTransform

_TYPES = {"F32": "<f4", "I64": "<i8"}  # of weights, and of a batch norm's counter


@dataclass(frozen=True)
class StoredNetwork:
    """What a checkpoint holds for predictions."""

    config: TrainConfig
    class_names: tuple[str, ...]
    transform: InputTransform
    metadata: dict[str, Any]
    weights: dict[str, NDArray[np.float32]]  #: by the names of `geometry.weight_shapes`
    mapping: mmap.mmap | None = None  #: of a file of its own, in which the weights lie; None: they lie in memory

    @property
    def weights_sha256(self) -> str:
        """Hash of names, types, shapes and values; empty for a checkpoint that does not name it."""
        return str(self.metadata.get("weights_sha256", ""))


def read_network(
    path: Path, scratch: Scratch | None = None, pause: Callable[[], object] = lambda: None
) -> StoredNetwork:
    """Read a checkpoint from exactly the bytes that were verified.

    Args:
        path: the checkpoint's folder.
        scratch: where a copy of the weights is mapped from; without room there, or None: they are read into memory.
        pause: called after each piece of the copy.

    Raises:
        CheckpointCorrupt: a file is missing, damaged or unreadable.
        CheckpointIncompatible: another version of this program wrote it, or its weights don't fit its config.
    """
    files = dict(read_manifest(path)["files"])
    try:
        entry = files.pop(WEIGHTS)
        data = {name: read_file(path, name, entry) for name, entry in files.items()}
        fill = partial(copy_file, path, WEIGHTS, entry, pause=pause)
        mapping = scratch.map_file(fill, entry["size"]) if scratch is not None else None
        network = StoredNetwork(
            config=TrainConfig.model_validate_json(data[CONFIG]),
            class_names=tuple(json.loads(data[CLASSES])),
            transform=InputTransform.model_validate_json(data[PREPROCESSING]),
            metadata=json.loads(data[METADATA]),
            weights=view_tensors(read_file(path, WEIGHTS, entry) if mapping is None else mapping),
            mapping=mapping,
        )
    except (ValidationError, KeyError) as exc:
        raise CheckpointIncompatible(f"checkpoint {path} can't be understood by this version: {exc}") from exc
    except ValueError as exc:
        raise CheckpointCorrupt(f"checkpoint {path} is damaged: {exc}") from exc
    _check_shapes(network, path)
    return network


def view_tensors(data: bytes | mmap.mmap) -> dict[str, NDArray[Any]]:
    """Return the tensors of a safetensors file as views of its bytes.

    The library's reader copies them, and lets no other thread of the interpreter run meanwhile: 35 ms for 86 MB.

    Raises:
        KeyError: a tensor has a type that no network has.
        ValueError: the bytes are no such file.
    """
    begin = 8 + int.from_bytes(data[:8], "little")
    tensors: dict[str, NDArray[Any]] = {}
    for name, entry in json.loads(data[8:begin]).items():
        if name == "__metadata__":
            continue
        dtype, (start, end) = np.dtype(_TYPES[entry["dtype"]]), entry["data_offsets"]
        values = np.frombuffer(data, dtype, (end - start) // dtype.itemsize, begin + start)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def _check_shapes(network: StoredNetwork, path: Path) -> None:
    try:
        expected = weight_shapes(network.config, len(network.class_names), network.transform.channels)
    except ConfigError as exc:
        raise CheckpointIncompatible(f"the config of {path} describes no network: {exc}") from exc
    found = {name: values.shape for name, values in network.weights.items()}
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise CheckpointIncompatible(f"the weights of {path} don't fit its config: {', '.join(wrong[:4])}")
