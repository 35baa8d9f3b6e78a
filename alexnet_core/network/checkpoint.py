"""Saves and loads checkpoints: folders that are complete or absent, and verified whenever they are read.

weights.safetensors         the network
config.json                 the TrainConfig
classes.json                class names in the order of the logits
preprocessing.json          the input transform
metadata.json               where it comes from: job, epoch, step, metrics, environment
state/                      what training needs to go on: buffers and history; may be deleted alone
manifest.json               sha256 and size of every file; written last
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from torch import Tensor

from alexnet_core.config import TrainConfig
from alexnet_core.durable import is_disk_full, sync_dir
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, DiskFull
from alexnet_core.failpoints import AFTER_RENAME, BEFORE_RENAME, BYTE, NOWHERE, Failpoints
from alexnet_core.layout import (
    CLASSES,
    CONFIG,
    MANIFEST,
    METADATA,
    PREPROCESSING,
    STATE,
    STATE_JSON,
    STATE_TENSORS,
    WEIGHTS,
    is_of_state,
    temporary_name,
)
from alexnet_core.network.checkpoint_files import FORMAT_VERSION, json_bytes, read_verified
from alexnet_core.network.preprocess import Preprocessing

_CHUNK_BYTES = 1 << 20
_TYPES = {torch.float16: "F16", torch.bfloat16: "BF16", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint in memory. It has `state` and `state_tensors` only if they were asked for."""

    path: Path
    config: TrainConfig
    class_names: tuple[str, ...]
    preprocessing: Preprocessing
    metadata: dict[str, Any]
    weights: dict[str, Tensor]
    state: dict[str, Any] | None = None
    state_tensors: dict[str, Tensor] | None = None


@dataclass(frozen=True)
class SavedCheckpoint:
    """What has been written."""

    path: Path
    files: dict[str, dict[str, Any]]
    size_bytes: int
    weights_sha256: str
    manifest_sha256: str


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Hash names, types, shapes and values in the order of the names, for any memory layout and device."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name]
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(_view_bytes(tensor))
    return digest.hexdigest()


def save_checkpoint(checkpoint: Checkpoint, *, failpoints: Failpoints = NOWHERE) -> SavedCheckpoint:
    """Write a checkpoint to its path, which must not exist yet.

    Args:
        checkpoint: with its training state.
        failpoints: for tests: where to fail.

    Raises:
        DiskFull: there is no room; nothing is left behind.
        OSError: any other trouble; nothing is left behind.
    """
    target = checkpoint.path
    contents = _serialise(checkpoint)
    temporary = target.parent / temporary_name(target.name)
    writer = _Writer(temporary, failpoints)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        _check_free_space(target.parent, sum(content.size_bytes for content in contents.values()))
        (temporary / STATE).mkdir(parents=True)
        entries = {name: writer.write(name, content) for name, content in contents.items()}
        manifest = {
            "format_version": FORMAT_VERSION,
            "files": {name: entry for name, entry in entries.items() if not is_of_state(name)},
            "state_files": {name: entry for name, entry in entries.items() if is_of_state(name)},
        }
        of_manifest = writer.write(MANIFEST, _json_content(manifest))
        sync_dir(temporary / STATE)
        sync_dir(temporary)
        failpoints.hit(BEFORE_RENAME)
        os.rename(temporary, target)
        sync_dir(target.parent)
        failpoints.hit(AFTER_RENAME)
    except OSError as exc:
        shutil.rmtree(temporary, ignore_errors=True)
        if is_disk_full(exc):
            raise DiskFull(f"no space left while writing {target}: free some space and resume") from exc
        raise
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    size = sum(entry["size"] for entry in entries.values()) + of_manifest["size"]
    return SavedCheckpoint(target, entries, size, checkpoint.metadata["weights_sha256"], of_manifest["sha256"])


def load_checkpoint(path: Path, *, state: bool = False) -> Checkpoint:
    """Read a checkpoint onto the CPU, from exactly the bytes that were verified.

    Raises:
        CheckpointCorrupt: a file is missing, damaged or unreadable.
        CheckpointIncompatible: another version of this program wrote it.
    """
    data = read_verified(path, state=state)
    try:
        return Checkpoint(
            path=path,
            config=TrainConfig.model_validate_json(data[CONFIG]),
            class_names=tuple(json.loads(data[CLASSES])),
            preprocessing=Preprocessing.model_validate_json(data[PREPROCESSING]),
            metadata=json.loads(data[METADATA]),
            weights=safetensors.torch.load(data[WEIGHTS]),
            state=json.loads(data[STATE_JSON]) if state else None,
            state_tensors=safetensors.torch.load(data[STATE_TENSORS]) if state else None,
        )
    except (ValidationError, KeyError) as exc:
        raise CheckpointIncompatible(f"checkpoint {path} can't be understood by this version: {exc}") from exc
    except (ValueError, SafetensorError) as exc:
        raise CheckpointCorrupt(f"checkpoint {path} is damaged: {exc}") from exc


@dataclass(frozen=True)
class _Content:
    """The content of a file, made part by part so that memory holds no second copy of a network."""

    size_bytes: int
    parts: Iterable[bytes | memoryview]


def _serialise(checkpoint: Checkpoint) -> dict[str, _Content]:
    return {
        WEIGHTS: _tensor_content(checkpoint.weights),
        CONFIG: _text_content(checkpoint.config.model_dump_json(indent=1)),
        CLASSES: _json_content(list(checkpoint.class_names)),
        PREPROCESSING: _text_content(checkpoint.preprocessing.model_dump_json(indent=1)),
        METADATA: _json_content(checkpoint.metadata),
        STATE_TENSORS: _tensor_content(checkpoint.state_tensors or {}),
        STATE_JSON: _json_content(checkpoint.state or {}),
    }


def _tensor_content(tensors: Mapping[str, Tensor]) -> _Content:
    """Return exactly the bytes of `safetensors.torch.save`: the length of a JSON header, the header, the values."""
    kinds = list(_TYPES)
    names = sorted(tensors, key=lambda name: (-kinds.index(tensors[name].dtype), name))
    header, end = {}, 0
    for name in names:
        tensor, start = tensors[name], end
        end += tensor.nbytes
        header[name] = {"dtype": _TYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)

    def parts() -> Iterator[bytes | memoryview]:
        yield len(text).to_bytes(8, "little") + text
        for name in names:
            yield _view_bytes(tensors[name])

    return _Content(8 + len(text) + end, parts())


def _json_content(value: Any) -> _Content:
    data = json_bytes(value)
    return _Content(len(data), [data])


def _text_content(text: str) -> _Content:
    data = text.encode()
    return _Content(len(data), [data])


def _view_bytes(tensor: Tensor) -> memoryview:
    """Return a tensor's values in the order of its dimensions.

    They are copied only if they lie otherwise in memory, or on a GPU.
    """
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


class _Writer:
    """Writes files that are on the disk when it returns."""

    def __init__(self, root: Path, failpoints: Failpoints) -> None:
        self._root, self._failpoints = root, failpoints
        self._left = failpoints.byte

    def write(self, name: str, content: _Content) -> dict[str, Any]:
        digest = hashlib.sha256()
        with open(self._root / name, "wb", buffering=0) as file:
            for part in content.parts:
                view = memoryview(part)
                while view:
                    written = file.write(self._cut(view[:_CHUNK_BYTES]))
                    digest.update(view[:written])
                    view = view[written:]
                    self._count(file.fileno(), written)
            os.fsync(file.fileno())
        return {"sha256": digest.hexdigest(), "size": content.size_bytes}

    def _cut(self, chunk: memoryview) -> memoryview:
        return chunk if self._left is None else chunk[: max(1, self._left)]

    def _count(self, fileno: int, written: int) -> None:
        if self._left is None:
            return
        self._left -= written
        if self._left <= 0:
            os.fsync(fileno)
            self._left = None
            self._failpoints.hit(f"{BYTE}{self._failpoints.byte}")


def _check_free_space(parent: Path, size_bytes: int) -> None:
    free_bytes = shutil.disk_usage(parent).free
    if free_bytes < 2 * size_bytes:
        raise DiskFull(
            f"{free_bytes // 1_000_000} MB are free at {parent}, "
            f"and a checkpoint needs {2 * size_bytes // 1_000_000} MB "
            "(twice its size): free some space and resume"
        )
