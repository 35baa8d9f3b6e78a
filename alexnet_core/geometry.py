"""The shape of every layer and the number of parameters, from the configuration alone. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from alexnet_core.config import TrainConfig
from alexnet_core.errors import ConfigError

MAX_PARAMETERS = 1_000_000_000  #: 4 GB of weights, four times that in training
_POOLED_CONVS = (1, 2, 5)
_POOL_STRIDE = 2


@dataclass(frozen=True)
class LayerShape:
    """One layer: its name, what it puts out, and how many values it trains."""

    name: str
    channels: int  #: maps, or units of a fully connected layer
    size_px: int  #: side of the maps; 1 for a fully connected layer
    num_parameters: int


def describe(config: TrainConfig, num_classes: int, channels: int) -> list[LayerShape]:
    """Every layer that has parameters or changes the size, in order.

    Both kinds of padding give ceil(size / stride) positions: "same" because its kernels are odd.

    Raises:
        ConfigError: the network would be larger than MAX_PARAMETERS.
    """
    layers: list[LayerShape] = []
    size_px = config.image_px
    for number, (width, kernel) in enumerate(zip(config.widths, config.kernels, strict=True), start=1):
        size_px = _ceil_div(size_px, config.conv1_stride if number == 1 else 1)
        extras = 2 * width if config.norm == "batch" else width  # scale and shift of the norm, or the bias
        layers.append(LayerShape(f"conv{number}", width, size_px, kernel * kernel * channels * width + extras))
        if number in _POOLED_CONVS:
            size_px = _ceil_div(size_px, _POOL_STRIDE)
            layers.append(LayerShape(f"pool{number}", width, size_px, 0))
        channels = width
    num_inputs = channels * size_px * size_px
    for number, width in enumerate((*config.fc_widths, num_classes), start=6):
        layers.append(LayerShape(f"fc{number}", width, 1, (num_inputs + 1) * width))
        num_inputs = width
    _check_size(sum(layer.num_parameters for layer in layers), config)
    return layers


def count_parameters(config: TrainConfig, num_classes: int, channels: int) -> int:
    """Number of trained values, as the built network has it.

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
