"""Computes the shape of every layer and the number of parameters from the configuration alone. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from alexnet_core.config import TrainConfig
from alexnet_core.errors import ConfigError

MAX_PARAMETERS = 1_000_000_000  #: 4 GB of weights, four times that in training
POOLED_CONVS = (1, 2, 5)  #: Krizhevsky 2012, section 3.5
NORMALISED_CONVS = (1, 2)  #: by local response; Krizhevsky 2012, section 3.5
TOWER_CONVS = (2, 4, 5)  #: those that see one tower only, where there are two
LAST_LAYER = "classifier.fc8"  #: the one whose size is that of the classes
POOL_KERNELS = {"overlapping": 3, "plain": 2}  #: with stride 2; Krizhevsky 2012, section 3.4


@dataclass(frozen=True)
class LayerShape:
    """One layer: its name, its output's shape, and how many values it trains."""

    name: str
    channels: int  #: maps, or units of a fully connected layer
    size_px: int  #: side of the maps; 1 for a fully connected layer
    num_parameters: int


def describe(config: TrainConfig, num_classes: int, channels: int) -> list[LayerShape]:
    """List every layer that has parameters or changes the size, in order.

    Raises:
        ConfigError: the images are too small for the layers, or the network would be larger than MAX_PARAMETERS.
    """
    layers: list[LayerShape] = []
    size_px = config.image_px
    for number, (width, kernel) in enumerate(zip(config.conv_channels, config.kernels, strict=True), start=1):
        size_px = _require(conv_size(config, number, size_px), f"conv{number}", config)
        seen = channels // (config.groups if number in TOWER_CONVS else 1)
        extras = 2 * width if config.norm == "batch" else width  # scale and shift of the norm, or the bias
        layers.append(LayerShape(f"conv{number}", width, size_px, kernel * kernel * seen * width + extras))
        if number in POOLED_CONVS:
            size_px = _require(pool_size(config, size_px), f"pool{number}", config)
            layers.append(LayerShape(f"pool{number}", width, size_px, 0))
        channels = width
    num_inputs = channels * (config.pool5_px or size_px) ** 2
    for number, width in enumerate((*config.fc_units, num_classes), start=6):
        layers.append(LayerShape(f"fc{number}", width, 1, (num_inputs + 1) * width))
        num_inputs = width
    _check_size(sum(layer.num_parameters for layer in layers), config)
    return layers


def weight_shapes(config: TrainConfig, num_classes: int, channels: int) -> dict[str, tuple[int, ...]]:
    """Return name and shape of everything that a checkpoint of this network contains.

    Raises:
        ConfigError: as `describe`.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    pool5 = describe(config, num_classes, channels)[-4]
    for number, (width, kernel) in enumerate(zip(config.conv_channels, config.kernels, strict=True), start=1):
        seen = channels // (config.groups if number in TOWER_CONVS else 1)
        shapes[f"features.conv{number}.weight"] = (width, seen, kernel, kernel)
        if config.norm == "batch":
            parts = ("weight", "bias", "running_mean", "running_var")
            shapes |= {f"features.norm{number}.{part}": (width,) for part in parts}
            shapes[f"features.norm{number}.num_batches_tracked"] = ()
        else:
            shapes[f"features.conv{number}.bias"] = (width,)
        channels = width
    num_inputs = channels * (config.pool5_px or pool5.size_px) ** 2
    for number, width in enumerate((*config.fc_units, num_classes), start=6):
        shapes |= {f"classifier.fc{number}.weight": (width, num_inputs), f"classifier.fc{number}.bias": (width,)}
        num_inputs = width
    return shapes


def find_misfits(own: Mapping[str, tuple[int, ...]], others: Mapping[str, tuple[int, ...]]) -> list[str]:
    """List the parameters that don't fit another network's weights. The last layer may differ."""
    names = dict.fromkeys([*own, *others])
    return [name for name in names if not name.startswith(LAST_LAYER) and own.get(name) != others.get(name)]


def conv_size(config: TrainConfig, number: int, size_px: int) -> int:
    """Return the side of a convolution's maps in pixels; below 1 it has none."""
    if number > 1:
        return size_px  # stride 1, and as much padding as the kernel takes
    kernel, stride = config.kernels[0], config.conv1_stride
    if config.padding in {"same", "tf_same"}:
        return _ceil_div(size_px, stride)
    if config.padding == "ceil":
        return 1 + _ceil_div(max(0, size_px - kernel), stride)
    around = 2 if config.padding == "pad_2" else 0
    return 1 + (size_px + 2 * around - kernel) // stride


def pool_size(config: TrainConfig, size_px: int) -> int:
    """Return the side of a pool's maps in pixels; below 1 it has none."""
    kernel = POOL_KERNELS[config.pooling]
    if config.padding in {"same", "tf_same"}:
        return _ceil_div(size_px, 2)
    if config.padding == "pad_2":
        return 1 + (size_px - kernel) // 2
    return 1 + _ceil_div(size_px - kernel, 2)


def _require(size_px: int, layer: str, config: TrainConfig) -> int:
    if size_px < 1:
        raise ConfigError(
            f"image_px {config.image_px} leaves nothing for {layer} with padding {config.padding}: use larger images "
            "or padding same",
            param="overrides",
        )
    return size_px


def count_parameters(config: TrainConfig, num_classes: int, channels: int) -> int:
    """Count the trained values, as the built network has them.

    Raises:
        ConfigError: the network would be larger than MAX_PARAMETERS.
    """
    return sum(layer.num_parameters for layer in describe(config, num_classes, channels))


def _check_size(num_parameters: int, config: TrainConfig) -> None:
    if num_parameters > MAX_PARAMETERS:
        raise ConfigError(
            f"the network would have {num_parameters:,} parameters, more than {MAX_PARAMETERS:,}: "
            f"lower widths, fc_widths or image_px ({config.image_px})",
            param="overrides",
        )


def _ceil_div(value: int, divisor: int) -> int:
    return -(-value // divisor)
