"""`small-images`: AlexNet for images of about 32 px, made for accuracy.

    python -m alexnet_core train --dataset fashion-mnist --recipe small-images

Source: Krizhevsky 2012; every deviation and its reason stands in the recipe's `source`.
Cost and accuracy: not measured over a whole run yet.
"""

from __future__ import annotations

from alexnet_core.config import TrainConfig
from alexnet_core.recipes.recipe import Recipe

SMALL_IMAGES = Recipe(
    name="small-images",
    title="AlexNet for small images, for accuracy",
    description="The paper's order of layers with kernels made for images of about 32 px, and batch normalisation.",
    source=(
        "Krizhevsky 2012, but: conv1 5x5 stride 1 (11x11 stride 4 leaves 8x8 of a 32 px image and costs accuracy), "
        "conv2 3x3, batch normalisation for LRN (bears a higher learning rate), 1024 units in the hidden "
        "layers (an image has a fiftieth of the pixels), one cycle of the learning rate and label "
        "smoothing for the manual schedule."
    ),
    config=TrainConfig(
        widths=(64, 160, 256, 256, 256),
        kernels=(5, 3, 3, 3, 3),
        conv1_stride=1,
        norm="batch",
        fc_widths=(1024, 1024),
        dropout=0.5,
        init="he_normal",
        image_px=32,
        optimiser="sgd",
        lr=0.05,
        momentum=0.9,
        nesterov=True,
        weight_decay=5e-4,
        label_smoothing=0.1,
        batch_size=128,
        epochs=20,
        schedule="one_cycle",
        warmup_fraction=0.2,
        flip=True,
        shift_px=2.0,
    ),
)
