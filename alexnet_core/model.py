"""The network: five convolutions, overlapping pools after 1, 2 and 5, three fully connected layers with dropout.

B batch, C channels, H height, W width, K classes
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from alexnet_core.config import TrainConfig
from alexnet_core.layers import SameConv2d, SameMaxPool2d

POOLED_CONVS = (1, 2, 5)  # Krizhevsky 2012, section 3.4; kernel 3, stride 2 overlap
_NOTES_CONV_LIMIT = 0.05  # Keras' "uniform" initialiser


class AlexNet(nn.Module):
    """`features` (convolutions and pools), then `classifier` (fully connected layers)."""

    def __init__(self, features: nn.Sequential, classifier: nn.Sequential) -> None:
        super().__init__()
        self.features = features
        self.classifier = classifier

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits_BK of standardised images."""
        logits_BK: Tensor = self.classifier(self.features(x_BCHW).flatten(1))
        return logits_BK


def build_model(config: TrainConfig, num_classes: int, channels: int) -> AlexNet:
    """A freshly initialised network, on the CPU, channels-last. Draws from torch's global generator."""
    features = _build_features(config, channels)
    with torch.no_grad():
        features.eval()
        num_features = features(torch.zeros(1, channels, config.image_px, config.image_px)).numel()
        features.train()
    model = AlexNet(features, _build_classifier(config, num_features, num_classes))
    _initialise(model, config.init)
    return model.to(memory_format=torch.channels_last)


def count_parameters(model: nn.Module) -> int:
    """Number of trained values."""
    return sum(parameter.numel() for parameter in model.parameters())


def _build_features(config: TrainConfig, channels: int) -> nn.Sequential:
    layers = nn.Sequential()
    for number, (width, kernel) in enumerate(zip(config.widths, config.kernels, strict=True), start=1):
        stride = config.conv1_stride if number == 1 else 1
        has_norm = config.norm == "batch"
        conv: nn.Conv2d
        if config.padding == "tf_same":
            conv = SameConv2d(channels, width, kernel, stride, bias=not has_norm)
        else:
            conv = nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=not has_norm)
        layers.add_module(f"conv{number}", conv)
        if has_norm:
            layers.add_module(f"norm{number}", nn.BatchNorm2d(width))
        layers.add_module(f"relu{number}", nn.ReLU(inplace=True))
        if number in POOLED_CONVS:
            pool = SameMaxPool2d(3, 2) if config.padding == "tf_same" else nn.MaxPool2d(3, 2, padding=1)
            layers.add_module(f"pool{number}", pool)
        channels = width
    return layers


def _build_classifier(config: TrainConfig, num_features: int, num_classes: int) -> nn.Sequential:
    layers = nn.Sequential()
    for number, width in enumerate(config.fc_widths, start=6):
        layers.add_module(f"fc{number}", nn.Linear(num_features, width))
        layers.add_module(f"relu{number}", nn.ReLU(inplace=True))
        layers.add_module(f"dropout{number}", nn.Dropout(config.dropout))
        num_features = width
    layers.add_module("fc8", nn.Linear(num_features, num_classes))
    return layers


def _initialise(model: AlexNet, init: str) -> None:
    if init == "torch":
        return
    for module in model.modules():
        if not isinstance(module, nn.Conv2d | nn.Linear):
            continue
        if init == "he_normal":
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        elif isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, -_NOTES_CONV_LIMIT, _NOTES_CONV_LIMIT)
        else:
            nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
