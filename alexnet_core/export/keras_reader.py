"""Makes a checkpoint from weights that Keras saved. Only numbers are read; no code in such a file is ever run.

It reads Keras 3's `.weights.h5` and `.keras`, and the older `.h5` of a whole model or of its weights. A layer is
identified by its place among those of its kind, and its kind by its first array: a kernel has 4 dimensions, a matrix 2.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from alexnet_core.config import TrainConfig
from alexnet_core.errors import CheckpointCorrupt, CheckpointIncompatible, ConfigError
from alexnet_core.export.imported import import_metadata
from alexnet_core.export.layers import BatchNorm, Convolution, Flatten, FullyConnected, list_layers
from alexnet_core.network.checkpoint import Checkpoint
from alexnet_core.network.geometry import describe
from alexnet_core.network.model import AlexNet, build_model
from alexnet_core.network.preprocess import Preprocessing

_IN_KERAS_ARCHIVE = "model.weights.h5"
_MAX_ARCHIVED_BYTES = 1 << 32  # of the weights in a .keras file, its optimiser's included
_KINDS = {4: "convolution", 2: "fully connected layer", 1: "batch norm"}

Group: TypeAlias = Any  # h5py tells no types
Dataset: TypeAlias = Any


@dataclass(frozen=True)
class _Saved:
    """One layer of the file with its arrays in Keras' order, not yet read."""

    name: str
    arrays: list[Dataset]

    @property
    def kind(self) -> str:
        return _KINDS.get(self.arrays[0].ndim, "layer of another kind")


def read_keras(
    source: Path,
    config: TrainConfig,
    class_names: Sequence[str],
    target: Path,
    *,
    batch_norm_epsilon: float | None = None,
) -> Checkpoint:
    """Return a checkpoint at `target`, not yet saved, with the weights that Keras saved in `source`.

    Args:
        source: `.weights.h5`, `.keras` or `.h5`.
        config: the network; its `mean` and `std` say how the input was standardised.
        class_names: in the order of the last layer's outputs.
        target: where the checkpoint will be.
        batch_norm_epsilon: of Keras' batch norms, which the file does not hold; needed where there are any.

    Raises:
        CheckpointCorrupt: the file can't be read, or refers to another one.
        CheckpointIncompatible: its layers are not those of the network.
        ConfigError: mean, std or epsilon are not given, or the network is impossible.
        OSError: there is no such file.
    """
    if config.norm == "batch" and batch_norm_epsilon is None:
        raise ConfigError(
            "the epsilon of Keras' batch norms is not in its file: give it (0.001, if the model did not name one)",
            param="batch_norm_epsilon",
        )
    with _open(source) as file:
        saved = _find_layers(file)
        channels = config.channels or _count_channels(saved)
        preprocessing = _preprocessing(config, channels)
        describe(config, len(class_names), channels)  # refuses a network that is too large, before it is built
        model = build_model(config, len(class_names), channels)
        _fill(model, config, saved, batch_norm_epsilon)
    weights = model.state_dict()
    if not all(bool(torch.isfinite(values).all()) for values in weights.values()):
        raise CheckpointCorrupt(f"{source} contains weights that are not finite numbers: its run diverged")
    metadata = import_metadata(config, weights, source)
    return Checkpoint(target, config, tuple(class_names), preprocessing, metadata, weights)


@contextmanager
def _open(source: Path) -> Iterator[Group]:
    """Open the file's root group. A problem with the file while it is open is raised as CheckpointCorrupt."""
    import h5py

    with open(source, "rb") as file, _reading(source), h5py.File(_unpacked(source, file), "r") as content:
        yield content


def _unpacked(source: Path, file: BinaryIO) -> BinaryIO:
    if not zipfile.is_zipfile(file):
        return file
    with zipfile.ZipFile(file) as archive:
        size_bytes = archive.getinfo(_IN_KERAS_ARCHIVE).file_size
        if size_bytes > _MAX_ARCHIVED_BYTES:
            raise CheckpointCorrupt(f"{source} holds {size_bytes / 1e9:.1f} GB: save only the weights, as .weights.h5")
        return io.BytesIO(archive.read(_IN_KERAS_ARCHIVE))


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    """Turn whatever h5py and zipfile raise about a bad file into CheckpointCorrupt."""
    try:
        yield
    except (OSError, EOFError, KeyError, ValueError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as exc:
        raise CheckpointCorrupt(f"{source} can't be read as Keras weights: {exc}") from exc


def _find_layers(file: Group) -> list[_Saved]:
    """Find every layer that has arrays; layers of the same kind are in order."""
    old = _child(file, "model_weights") if "model_weights" in file else file
    if "layer_names" in old.attrs:
        names = [_text(name) for name in old.attrs["layer_names"]]
        found = [_Saved(name, _old_arrays(_child(old, name))) for name in names]
    else:
        layers = _child(file, "layers")
        found = [_Saved(name, _numbered_arrays(_child(layers, name))) for name in sorted(layers, key=_counted)]
    found = [layer for layer in found if layer.arrays]
    if "layer_names" not in old.attrs:
        _require_one_class_a_kind(found)
    return found


def _old_arrays(layer: Group) -> list[Dataset]:
    return [_array(layer, _text(name)) for name in layer.attrs["weight_names"]]


def _numbered_arrays(layer: Group) -> list[Dataset]:
    variables = _child(layer, "vars") if "vars" in layer else {}
    return [_array(variables, number) for number in sorted(variables, key=int)]


def _counted(name: str) -> tuple[str, int]:
    """Split Keras' name of a layer into its class and the number of such layers before it."""
    kind, _, count = name.rpartition("_")
    return (kind, int(count)) if kind and count.isdecimal() else (name, 0)


def _require_one_class_a_kind(layers: Sequence[_Saved]) -> None:
    for kind in _KINDS.values():
        classes = {_counted(layer.name)[0] for layer in layers if layer.kind == kind}
        if len(classes) > 1:
            raise CheckpointIncompatible(
                f"the order of the file's layers is not known: {', '.join(sorted(classes))} are classes of a "
                f"{kind}, and Keras counts each class for itself"
            )


def _array(group: Group, path: str) -> Dataset:
    """Return an array whose numbers are in the file itself."""
    import h5py

    array = _child(group, path)
    if not isinstance(array, h5py.Dataset) or array.external or array.is_virtual or array.dtype.kind != "f":
        raise ValueError(f"{path!r} is not a plain array of floating-point numbers")
    return array


def _child(group: Group, path: str) -> Any:
    """Return the object at the end of a path. Links are not followed, because they may lead out of the file."""
    import h5py

    for part in path.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise ValueError(f"{part!r} is not in it, or only as a link")
        group = group[part]
    return group


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _count_channels(saved: Sequence[_Saved]) -> int:
    kernels = [layer.arrays[0] for layer in saved if layer.kind == "convolution"]
    channels = int(kernels[0].shape[2]) if kernels else 0
    if channels not in (1, 3):
        raise CheckpointIncompatible(f"the file's first convolution reads {channels} channels, not 1 or 3")
    return channels


def _preprocessing(config: TrainConfig, channels: int) -> Preprocessing:
    if config.mean is None or (config.std is None and config.standardise == "mean_std"):
        raise ConfigError(
            "Keras' file does not say how the network's input was standardised: override mean and std, in units "
            "of 0..255",
            param="overrides.mean",
        )
    std = config.std or (1.0,) * channels
    if not len(config.mean) == len(std) == channels:
        raise ConfigError(
            f"the network's input has {channels} channels: give mean and std one value each, not {len(config.mean)} "
            f"and {len(std)}",
            param="overrides.mean",
        )
    return Preprocessing(
        image_px=config.image_px, resize_px=config.resize_px, channels=channels, mean=config.mean, std=std
    )


@torch.no_grad()
def _fill(model: AlexNet, config: TrainConfig, saved: Sequence[_Saved], epsilon: float | None) -> None:
    layers = list_layers(model, config.image_px)
    convolutions = [(it.name, it.module) for it in layers if isinstance(it, Convolution)]
    norms = [(it.name, it.module) for it in layers if isinstance(it, BatchNorm)]
    connected = [(it.name, it.module) for it in layers if isinstance(it, FullyConnected)]
    [flatten] = [it for it in layers if isinstance(it, Flatten)]
    for name, conv, arrays in _pairs("convolution", convolutions, saved):
        kernel_HWIO = _read(name, arrays[0], [*conv.kernel_size, conv.weight.shape[1], conv.out_channels])
        conv.weight.copy_(kernel_HWIO.permute(3, 2, 0, 1))
        _fill_bias(name, conv, arrays[1:])
    for name, norm, arrays in _pairs("batch norm", norms, saved):
        _fill_norm(name, norm, arrays, epsilon or 0.0)
    for name, linear, arrays in _pairs("fully connected layer", connected, saved):
        matrix = _read(name, arrays[0], [linear.in_features, linear.out_features]).T
        if name == connected[0][0]:
            side = flatten.size_px
            matrix = matrix.reshape(-1, side, side, flatten.channels).permute(0, 3, 1, 2).flatten(1)
        linear.weight.copy_(matrix)
        _fill_bias(name, linear, arrays[1:])


_Module = TypeVar("_Module", bound=nn.Module)


def _pairs(
    kind: str, expected: Sequence[tuple[str, _Module]], saved: Sequence[_Saved]
) -> list[tuple[str, _Module, list[Dataset]]]:
    """Pair each layer of the network with the arrays of the file's layer in the same place."""
    found = [layer.arrays for layer in saved if layer.kind == kind]
    if len(found) != len(expected):
        raise CheckpointIncompatible(
            f"the file has {len(found)} of the kind {kind}, and the network {len(expected)}: use the recipe and "
            "overrides that describe its network"
        )
    return [(name, module, arrays) for (name, module), arrays in zip(expected, found, strict=True)]


def _fill_bias(name: str, module: nn.Conv2d | nn.Linear, arrays: Sequence[Dataset]) -> None:
    if len(arrays) != (module.bias is not None):
        has, wants = ("a", "none") if arrays else ("no", "one")
        raise CheckpointIncompatible(f"{name} has {has} bias in the file, and the network wants {wants}")
    if module.bias is not None:
        module.bias.copy_(_read(name, arrays[0], list(module.bias.shape)))


def _fill_norm(name: str, norm: nn.BatchNorm2d, arrays: Sequence[Dataset], epsilon: float) -> None:
    if len(arrays) != 4:
        raise CheckpointIncompatible(f"{name} has {len(arrays)} arrays in the file, not gamma, beta, mean and variance")
    own = (norm.weight, norm.bias, norm.running_mean, norm.running_var)
    for parameter, array in zip(own, arrays, strict=True):
        assert parameter is not None
        parameter.copy_(_read(name, array, [norm.num_features]))
    assert norm.running_var is not None
    norm.running_var += epsilon - norm.eps  # the same quotient with our own epsilon


def _read(name: str, array: Dataset, shape: Sequence[int]) -> Tensor:
    """Read the values as float32, only if their number is the expected one."""
    if list(array.shape) != list(shape):
        raise CheckpointIncompatible(
            f"{name} has the shape {list(array.shape)} in the file, and {list(shape)} in the network (as Keras orders "
            "it): use the recipe and overrides that describe the file's network"
        )
    return torch.from_numpy(np.asarray(array[()], dtype=np.float32))
