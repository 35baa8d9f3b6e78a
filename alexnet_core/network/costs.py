"""Computes what training a network costs from the configuration alone: multiplications and memory. No torch.

The memory is that of the tensors which are alive at the end of a forward pass, plus what the backward pass adds:
weights, their gradients, the optimiser's buffers, and whatever the layers keep of a batch for their gradients. Not in
it are the libraries themselves and the dataset, which is mapped into memory and can be dropped from it at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

from alexnet_core.config import TrainConfig
from alexnet_core.network.geometry import POOLED_CONVS, TOWER_CONVS, LayerShape, describe

_MAX_WRITTEN_OUT_PIXELS = 16  #: as `convolution.MAX_PIXELS`, which needs torch; a test compares the two
_FLOAT, _HALF, _INDEX = 4, 2, 8  # bytes of a value in fp32, in bf16 or fp16, and of a position that a pool keeps
_PASSES = 3  # forward, gradient of the inputs, gradient of the weights; conv1 needs no gradient of the images


@dataclass(frozen=True)
class TrainingCosts:
    """What a network costs in training."""

    flops_per_image: int  #: of a training step, divided by the batch; a multiplication and an addition are two
    weight_bytes: int  #: weights, gradients and the optimiser's buffers
    activation_bytes: int  #: what the layers keep of one batch, and the gradients between them

    @property
    def memory_bytes(self) -> int:
        """All tensors together."""
        return self.weight_bytes + self.activation_bytes


def compute_costs(config: TrainConfig, num_classes: int, channels: int) -> TrainingCosts:
    """Compute the costs of training with a config.

    With `precision` `auto` the memory is that of fp32, which needs more.

    Args:
        config: complete.
        num_classes: of the dataset.
        channels: of the network's input.

    Raises:
        ConfigError: such a network can't be built; see `geometry.describe`.
    """
    layers = describe(config, num_classes, channels)
    value = _HALF if config.precision in {"bf16", "fp16"} else _FLOAT
    first = count_products(config, layers[0])
    kept, largest = _count_kept_bytes(config, layers, channels, value)
    return TrainingCosts(
        flops_per_image=2 * (_PASSES * sum(count_products(config, each) for each in layers) - first),
        weight_bytes=_count_weight_bytes(config, layers, channels, value),
        activation_bytes=config.batch_size * (kept + 2 * largest),
    )


def count_products(config: TrainConfig, layer: LayerShape) -> int:
    """Count the multiplications of a layer's weights in one forward pass of one image."""
    if layer.num_parameters == 0:
        return 0
    beside = 2 if layer.name.startswith("conv") and config.norm == "batch" else 1  # biases, or a norm's two
    return (layer.num_parameters - beside * layer.channels) * layer.size_px**2


def _count_weight_bytes(config: TrainConfig, layers: list[LayerShape], channels: int, value: int) -> int:
    buffers = 2 if config.optimiser == "adamw" else 1 if config.momentum else 0
    copies = value if value != _FLOAT else 0  # autocast's
    num_parameters = sum(layer.num_parameters for layer in layers)
    written_out = sum(_count_written_out(config, layers, number, channels) for number in range(1, 6))
    return num_parameters * ((2 + buffers) * _FLOAT + copies) + 2 * written_out * value


def _count_written_out(config: TrainConfig, layers: list[LayerShape], number: int, channels: int) -> int:
    """Count the values of a convolution of a small map as one matrix, which a CPU uses; its gradient has as many."""
    convs = [layer for layer in layers if layer.name.startswith("conv")]
    layer, kernel = convs[number - 1], config.kernels[number - 1]
    seen = channels if number == 1 else convs[number - 2].channels
    stride = config.conv1_stride if number == 1 else 1
    is_plain = stride == 1 and kernel % 2 == 1 and not (config.groups == 2 and number in TOWER_CONVS)
    keeps_size = number > 1 or config.padding in {"same", "tf_same"}
    num_pixels = layer.size_px**2
    if not (is_plain and keeps_size and num_pixels <= _MAX_WRITTEN_OUT_PIXELS):
        return 0
    return num_pixels**2 * seen * layer.channels


def _count_kept_bytes(config: TrainConfig, layers: list[LayerShape], channels: int, value: int) -> tuple[int, int]:
    """Count the bytes that the layers keep of one image for their gradients, and those of the largest of the maps."""
    by_name = {layer.name: layer for layer in layers}
    image = channels * config.image_px**2
    is_copied = value != _FLOAT or config.padding in {"ceil", "tf_same"}  # to another type, or with a border
    kept = image * (_FLOAT + value * is_copied)
    largest = image * _FLOAT
    for number in range(1, 6):
        conv, pool = by_name[f"conv{number}"], by_name.get(f"pool{number}")
        maps = conv.channels * conv.size_px**2
        pooled = conv.channels * pool.size_px**2 if pool is not None else maps
        kept += maps * value * (2 if config.norm == "batch" else 1)  # before the norm, and after the activation
        kept += _count_response_bytes(config, number, maps, pooled, value)
        if number in POOLED_CONVS:
            kept += pooled * (value + _INDEX)
        largest = max(largest, maps * value)
    features = by_name["pool5"].channels * (config.pool5_px or by_name["pool5"].size_px) ** 2
    kept += features * value  # made flat
    for number in (6, 7):
        kept += by_name[f"fc{number}"].channels * value * (3 if config.dropout else 1)  # with the mask, and masked
    kept += by_name["fc8"].channels * 3 * _FLOAT  # logits, their logarithms and the gradient
    return kept, largest


def _count_response_bytes(config: TrainConfig, number: int, maps: int, pooled: int, value: int) -> int:
    """Count what the response norms of conv1 and conv2 keep: sums and results of the norm across maps or within."""
    order = {1: config.conv1_order, 2: config.conv2_order}.get(number)
    if order is None:
        return 0
    values = pooled if order.index("pool") < order.index("normalise") else maps
    across = values * (_FLOAT + value) if config.norm.startswith("lrn") else 0
    within = values * (4 * _FLOAT + value) if f"conv{number}" in config.map_norm_layers else 0
    return across + within
