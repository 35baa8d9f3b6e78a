"""AlexNet as most people would train it: DataLoader, torchvision transforms, fp32, torch.optim.SGD.

    python bench/peers/plain_pytorch.py BATCH_SIZE [--seconds 10] [--network notes-cifar10 | torchvision]

Prints one JSON line with `images_per_s`, the data pipeline included.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms
from torchvision.models import alexnet

SHIFTS = [
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
    transforms.RandomAffine(0, translate=(0.125, 0.125), interpolation=transforms.InterpolationMode.BILINEAR),
]
CROPS = [
    transforms.RandomCrop(224),
    transforms.RandomHorizontalFlip(),
    transforms.ToTensor(),
    transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
]


class Images(Dataset[tuple[torch.Tensor, int]]):
    """Returns a PIL image and its label, as torchvision's datasets do for an array."""

    def __init__(self, count: int, side: int, steps: list[object]) -> None:
        self.images = np.random.default_rng(0).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(Image.fromarray(self.images[index])), index % 10


def build_model() -> nn.Module:
    """Build the notes' layers, with TensorFlow's padding written out."""
    return nn.Sequential(
        nn.ZeroPad2d((3, 4, 3, 4)), nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2),
        nn.Conv2d(96, 256, 5, padding=2), nn.ReLU(), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2),
        nn.Conv2d(256, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 384, 3, padding=1), nn.ReLU(),
        nn.Conv2d(384, 256, 3, padding=1), nn.ReLU(), nn.ZeroPad2d((0, 1, 0, 1)), nn.MaxPool2d(3, 2),
        nn.Flatten(),
        nn.Linear(256, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout(),
        nn.Linear(4096, 10),
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("batch_size", type=int)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--network", choices=["notes-cifar10", "torchvision"], default="notes-cifar10")
    options = parser.parse_args()
    is_small = options.network == "notes-cifar10"
    images_and_labels = Images(10_000, 32, SHIFTS) if is_small else Images(2_000, 256, CROPS)
    loader = DataLoader(
        images_and_labels, batch_size=options.batch_size, shuffle=True, num_workers=2, persistent_workers=True
    )
    model = build_model() if is_small else alexnet(num_classes=1000)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    loss_function = nn.CrossEntropyLoss()
    images = steps = 0
    began = 0.0
    while True:
        for x, labels in loader:
            optimiser.zero_grad()
            loss_function(model(x), labels).backward()
            optimiser.step()
            steps += 1
            if steps == 3:
                began = time.perf_counter()
            elif steps > 3:
                images += len(x)
                elapsed = time.perf_counter() - began
                if elapsed >= options.seconds and steps >= 8:
                    print(json.dumps({"images_per_s": images / elapsed}))
                    return


if __name__ == "__main__":
    main()
