"""The two networks by PyTorch's own layers, as somebody would write them who has never heard of Trainyard.

The names of the parameters are those of our checkpoints, so that a state dict of them can be loaded.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class AlexNet(nn.Module):
    """Convolutions and pools, then fully connected layers. There is no dropout, for nobody trains here."""

    def __init__(self, features: dict[str, nn.Module], num_features: int, num_classes: int) -> None:
        super().__init__()
        self.features = _sequential(features)
        self.classifier = _sequential(
            {
                "fc6": nn.Linear(num_features, 4096), "relu6": nn.ReLU(inplace=True),
                "fc7": nn.Linear(4096, 4096), "relu7": nn.ReLU(inplace=True),
                "fc8": nn.Linear(4096, num_classes),
            }
        )  # fmt: skip

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Return logits_BK of standardised images."""
        logits_BK: Tensor = self.classifier(self.features(x_BCHW).flatten(1))
        return logits_BK


def build_notes_cifar10(num_classes: int) -> AlexNet:
    """Build the network of the recipe `notes-cifar10` for 32 px.

    TensorFlow's "same" padding is written out. A pool after ReLU may round up instead: what lies outside never wins.
    """
    features = {
        "pad1": nn.ZeroPad2d((3, 4, 3, 4)),
        "conv1": nn.Conv2d(3, 96, 11, stride=4), "relu1": nn.ReLU(inplace=True), "pool1": _round_up_pool(),
        "conv2": nn.Conv2d(96, 256, 5, padding=2), "relu2": nn.ReLU(inplace=True), "pool2": _round_up_pool(),
        "conv3": nn.Conv2d(256, 384, 3, padding=1), "relu3": nn.ReLU(inplace=True),
        "conv4": nn.Conv2d(384, 384, 3, padding=1), "relu4": nn.ReLU(inplace=True),
        "conv5": nn.Conv2d(384, 256, 3, padding=1), "relu5": nn.ReLU(inplace=True), "pool5": _round_up_pool(),
    }  # fmt: skip
    return AlexNet(features, 256, num_classes)


def build_paper_2012(num_classes: int) -> AlexNet:
    """Build the network of the recipe `paper-2012` for 227 px.

    PyTorch divides the norm's alpha by its size, so 1e-4 on the sum is 5e-4 here.
    """
    features = {
        "conv1": nn.Conv2d(3, 96, 11, stride=4), "relu1": nn.ReLU(inplace=True),
        "norm1": nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0), "pool1": nn.MaxPool2d(3, 2),
        "conv2": nn.Conv2d(96, 256, 5, padding=2, groups=2), "relu2": nn.ReLU(inplace=True),
        "norm2": nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2.0), "pool2": nn.MaxPool2d(3, 2),
        "conv3": nn.Conv2d(256, 384, 3, padding=1), "relu3": nn.ReLU(inplace=True),
        "conv4": nn.Conv2d(384, 384, 3, padding=1, groups=2), "relu4": nn.ReLU(inplace=True),
        "conv5": nn.Conv2d(384, 256, 3, padding=1, groups=2), "relu5": nn.ReLU(inplace=True),
        "pool5": nn.MaxPool2d(3, 2),
    }  # fmt: skip
    return AlexNet(features, 256 * 6 * 6, num_classes)


#: By the recipe's name.
BUILDERS: dict[str, Callable[[int], AlexNet]] = {
    "notes-cifar10": build_notes_cifar10,
    "paper-2012": build_paper_2012,
}
#: Which layout in memory is faster on a CPU in fp32, by the recipe's name. Measured on two cores, batches of 1 to 64.
LAYOUTS = {"notes-cifar10": torch.contiguous_format, "paper-2012": torch.channels_last}


def _round_up_pool() -> nn.MaxPool2d:
    return nn.MaxPool2d(3, 2, ceil_mode=True)


def _sequential(layers: dict[str, nn.Module]) -> nn.Sequential:
    sequence = nn.Sequential()
    for name, layer in layers.items():
        sequence.add_module(name, layer)
    return sequence
