"""`quick`: a small AlexNet for a CPU.

    python -m alexnet_core train --dataset digits --recipe quick

Source: Krizhevsky 2012; every deviation and its reason stands in the recipe's `source`.
Cost: 0.43 million parameters with 10 classes; on two cores the 20 epochs of Fashion-MNIST take 6 minutes, those of
digits 12 seconds.
Accuracy, test, means of three seeds: Fashion-MNIST 92.6 %, digits 98.4 %. Conditions: docs/benchmarks.md.
"""

from __future__ import annotations

from alexnet_core.config import TrainConfig
from alexnet_core.recipes.recipe import Recipe

QUICK = Recipe(
    name="quick",
    title="A small AlexNet for a CPU",
    description="Seconds to minutes on two cores: narrow layers, small kernels, batch normalisation, one cycle.",
    source=(
        "As small-images, but narrower (32-64-96-96-64, 256 units in the hidden layers), conv1 3x3, on 24 px images: "
        "made to be quick without a GPU. Dropout .2 (.5 was worse on digits) and less label smoothing, for a network "
        "that has little to spare."
    ),
    config=TrainConfig(
        widths=(32, 64, 96, 96, 64),
        kernels=(3, 3, 3, 3, 3),
        conv1_stride=1,
        norm="batch",
        fc_widths=(256, 256),
        dropout=0.2,
        init="he_normal",
        image_px=24,
        optimiser="sgd",
        lr=0.05,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        label_smoothing=0.05,
        batch_size=64,
        epochs=20,
        schedule="one_cycle",
        warmup_fraction=0.2,
        flip=True,
        shift_px=1.5,
    ),
)
