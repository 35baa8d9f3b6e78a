"""`torchvision`: the AlexNet of torchvision.models, which most people mean today.

    python -m alexnet_core train --dataset <images of 256 px> --recipe torchvision

Source: torchvision/models/alexnet.py, after A. Krizhevsky: One weird trick for parallelizing convolutional neural
networks (2014); the schedule of torchvision's classification reference.
Parameters: 61,100,840 with 1000 classes.
Cost: 4.3 GFLOP an image and training step; 90 epochs.
Accuracy, published with its weights: ImageNet 56.5 % top-1, 79.1 % top-5 with one crop. None measured here: the images
can't be had.

Difference: training crops are cut at a random place of an image whose shorter side is 256, not from a random part of 8
to 100 % of its area; `--override random_crop=false --override random_resized_crop=0.08` does the latter.
"""

from __future__ import annotations

from alexnet_core.config import TrainConfig
from alexnet_core.recipes.recipe import Recipe

TORCHVISION = Recipe(
    name="torchvision",
    title="AlexNet as torchvision has it",
    description="One tower, narrower convolutions, no response norm, dropout before fc6 and fc7; 61,100,840.",
    source=(
        "torchvision.models.alexnet (after Krizhevsky 2014): 64-192-384-256-256 maps, padding 2 around conv1, maps "
        "averaged to 6x6, PyTorch's initial weights; learning rate .01 divided by 10 each 30 epochs, weight decay 1e-4."
    ),
    config=TrainConfig(
        widths=(64, 192, 384, 256, 256),
        kernels=(11, 5, 3, 3, 3),
        conv1_stride=4,
        padding="pad_2",
        pool5_px=6,
        fc_widths=(4096, 4096),
        dropout=0.5,
        dropout_place="before",
        init="torch",
        image_px=224,
        resize_px=256,
        channels=3,
        optimiser="sgd",
        lr=0.01,
        momentum=0.9,
        weight_decay=1e-4,
        decay_biases=True,
        batch_size=256,
        epochs=90,
        schedule="multistep",
        lr_steps=((0, 0.01), (30, 0.001), (60, 0.0001)),
        flip=True,
        random_crop=True,
    ),
)
