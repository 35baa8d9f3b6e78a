"""Reads the tensors in a file of `torch.save`, such as torchvision's weights, without running anything.

`torch.load` unpickles; with `weights_only` it calls only functions of a list, but it calls them. Here the pickle's
opcodes are followed by `alexnet_core.data.published.pickles`, which calls nothing, and a tensor is recognised by the
few names that a state dict consists of. Both of torch's formats are read: the zip archive, and the older sequence of
pickles.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alexnet_core.data.published.pickles import PickleReader, PickleRefused
from alexnet_core.errors import CheckpointCorrupt

MAX_BYTES = 1 << 32  #: of a file; a network of a billion parameters has as many
_MAGIC = 0x1950A86A20F9469CFC6C  # the first pickle of the older format
_LEGACY_PROTOCOL = 1001
_MAX_DIMENSIONS = 8
_TYPES: dict[str, torch.dtype] = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_REBUILD, _REBUILD_PARAMETER, _ORDERED_DICT = object(), object(), object()
_GLOBALS: dict[str, object] = {
    "torch._utils _rebuild_tensor_v2": _REBUILD,
    "torch._utils _rebuild_parameter": _REBUILD_PARAMETER,
    "collections OrderedDict": _ORDERED_DICT,
    **{f"torch {name}": dtype for name, dtype in _TYPES.items()},
}


def read_tensors(source: Path) -> dict[str, Tensor]:
    """Read the tensors of a state dict, which may also be `state_dict` or `model` in a larger dictionary.

    Raises:
        CheckpointCorrupt: it is no such file, is damaged, or holds anything but tensors, texts and numbers.
        OSError: there is no such file.
    """
    size_bytes = source.stat().st_size
    if size_bytes > MAX_BYTES:
        raise CheckpointCorrupt(f"{source} has {size_bytes / 1e9:.1f} GB: save only the state dict")
    file = io.BytesIO(source.read_bytes())
    try:
        found = _read_archive(file) if zipfile.is_zipfile(file) else _read_legacy(file)
    except KeyError as exc:
        raise CheckpointCorrupt(f"{source} can't be read as a state dict of torch: it lacks {exc}") from exc
    except (ValueError, EOFError, RuntimeError, OverflowError, zipfile.BadZipFile) as exc:
        raise CheckpointCorrupt(f"{source} can't be read as a state dict of torch: {exc}") from exc
    return _find_state_dict(found, source)


def _find_state_dict(found: object, source: Path) -> dict[str, Tensor]:
    if isinstance(found, dict):
        for name in ("state_dict", "model"):
            found = found[name] if isinstance(found.get(name), dict) else found
    tensors = found if isinstance(found, dict) else {}
    wrong = [name for name, value in tensors.items() if not isinstance(value, Tensor)]
    if not tensors or wrong:
        said = f"{wrong[0]!r:.60} is no tensor" if wrong else f"it holds a {type(found).__name__}"
        raise CheckpointCorrupt(f"{source} holds no state dict of named tensors: {said}")
    return tensors


@dataclass(frozen=True)
class _Storage:
    """A block of values that tensors are views of."""

    dtype: torch.dtype
    key: str
    num_values: int


class _TensorReader(PickleReader):
    """Reads the few kinds of objects that a state dict consists of.

    Args:
        load: gives a storage's values; None: they are not known yet, and the tensor is not looked at.
    """

    def __init__(self, load: Callable[[_Storage], Tensor | None]) -> None:
        super().__init__(_GLOBALS)
        self._load = load

    def load_persistent(self, description: object) -> object:
        match description:
            case ("storage", torch.dtype() as dtype, str(key), str(), int(count), *rest) if count >= 0:
                if rest not in ([], [None]):
                    raise PickleRefused("it has a storage that is a view of another one")
                return _Storage(dtype, key, count)
        raise PickleRefused("it refers to something other than the values of a tensor")

    def reduce(self, target: object, arguments: object) -> object:
        match arguments:
            case () if target is _ORDERED_DICT:
                return {}
            case (_Storage() as storage, int(offset), tuple(size), tuple(stride), bool(), dict(), *_) if (
                target is _REBUILD
            ):
                values = self._load(storage)
                return torch.empty(0) if values is None else _view(values, offset, size, stride)
            case (Tensor() as tensor, bool(), dict()) if target is _REBUILD_PARAMETER:
                return tensor
        raise PickleRefused("it asks for something other than a tensor")

    def build(self, target: object, state: object) -> bool:
        return isinstance(target, dict)  # a state dict's `_metadata`: versions of layers


def _view(values: Tensor, offset: int, size: tuple[Any, ...], stride: tuple[Any, ...]) -> Tensor:
    sides = [*size, *stride, offset]
    if len(size) != len(stride) or len(size) > _MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in sides):
        raise PickleRefused(f"it holds a tensor of the shape {size!s:.60}, which is impossible")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if prod(size) > len(values) or (prod(size) and last >= len(values)):
        raise PickleRefused(f"it holds a tensor of the shape {size!s:.60} without as many values")
    return torch.as_strided(values, size, stride, offset)


def _read_archive(file: io.BytesIO) -> object:
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename.partition("/")[2]: entry for entry in archive.infolist()}
        if sum(entry.file_size for entry in archive.infolist()) > len(file.getbuffer()):
            raise PickleRefused("its entries have more bytes than the file")
        for entry in entries.values():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise PickleRefused(f"{entry.filename} is compressed, which torch's files never are")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise PickleRefused("its values have the byte order of another kind of machine")

        def load(storage: _Storage) -> Tensor:
            return _to_tensor(archive.read(entries[f"data/{storage.key}"]), storage)

        return _TensorReader(_remembering(load)).read(archive.read(entries["data.pkl"]))


def _read_legacy(file: io.BytesIO) -> object:
    """Read the older format: four pickles, the keys of the storages, and their values.

    The pickles are a magic number, a version, facts about the machine, and the object.
    """
    file.seek(0)
    plain: Mapping[str, object] = {}
    if PickleReader(plain).read(file) != _MAGIC or PickleReader(plain).read(file) != _LEGACY_PROTOCOL:
        raise PickleRefused("it does not begin like such a file")
    machine = PickleReader(plain).read(file)
    if not isinstance(machine, dict) or machine.get("little_endian") is not True:
        raise PickleRefused("its values have the byte order of another kind of machine")
    start = file.tell()
    wanted: dict[str, _Storage] = {}
    _TensorReader(lambda storage: _note(wanted, storage)).read(file)
    keys = PickleReader(plain).read(file)
    values = {key: _read_counted(file, wanted[key]) for key in keys if isinstance(key, str)}
    file.seek(start)
    return _TensorReader(lambda storage: values[storage.key]).read(file)


def _note(wanted: dict[str, _Storage], storage: _Storage) -> None:
    if wanted.setdefault(storage.key, storage) != storage:
        raise PickleRefused(f"it describes the storage {storage.key!r:.40} in two ways")


def _read_counted(file: io.BytesIO, storage: _Storage) -> Tensor:
    count = int.from_bytes(file.read(8), "little")
    if count != storage.num_values:
        raise PickleRefused(f"its storage {storage.key!r:.40} has {count} values, not {storage.num_values}")
    return _to_tensor(file.read(min(count * storage.dtype.itemsize, MAX_BYTES)), storage)


def _remembering(load: Callable[[_Storage], Tensor]) -> Callable[[_Storage], Tensor]:
    known: dict[_Storage, Tensor] = {}

    def load_once(storage: _Storage) -> Tensor:
        if storage not in known:
            known[storage] = load(storage)
        return known[storage]

    return load_once


def _to_tensor(data: bytes, storage: _Storage) -> Tensor:
    if len(data) != storage.num_values * storage.dtype.itemsize:
        raise PickleRefused(f"its storage {storage.key!r:.40} has {len(data)} bytes, not those of its values")
    if not data:
        return torch.empty(0, dtype=storage.dtype)
    return torch.from_numpy(np.frombuffer(data, dtype=np.uint8).copy()).view(storage.dtype)
