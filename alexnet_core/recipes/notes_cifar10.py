"""`notes-cifar10`: a Keras reproduction of AlexNet on CIFAR-10, number by number.

    python -m alexnet_core train --dataset cifar10 --recipe notes-cifar10

Source: the reading notes and the Keras script that this project was started from, after Krizhevsky 2012.
Parameters: 21,622,154 with 10 classes.
Cost: 0.25 GFLOP an image and training step. 949 images/s on two cores (docs/benchmarks.md): from that, 53 s for an
epoch of 50,000 images, 4.4 hours for all 300.
Accuracy: none measured here, and the notes' own figure is not at hand. They validate on the test set and so does this
recipe; results are marked so.
"""

from __future__ import annotations

from alexnet_core.config import TrainConfig
from alexnet_core.recipes.recipe import Recipe

NOTES_CIFAR10 = Recipe(
    name="notes-cifar10",
    title="AlexNet on CIFAR-10, as in the reproduction notes",
    description="The paper's widths on 32 px images: conv1 11x11 stride 4, no LRN, one device; 21,622,154 parameters.",
    source=(
        "A Keras reproduction of Krizhevsky 2012 on CIFAR-10, number by number: TensorFlow's 'same' padding, "
        "U(-0.05, 0.05) convolution kernels, Glorot uniform dense layers, Nesterov with the learning rate inside the "
        "velocity, three learning rates over 300 epochs, flips and sub-pixel shifts filled with 0 after "
        "standardisation up to the last line of pixels, the test set as validation set."
    ),
    config=TrainConfig(
        widths=(96, 256, 384, 384, 256),
        kernels=(11, 5, 3, 3, 3),
        conv1_stride=4,
        padding="tf_same",
        fc_widths=(4096, 4096),
        dropout=0.5,
        init="uniform",
        image_px=32,
        channels=3,
        mean=(125.307, 122.95, 113.865),
        std=(62.9932, 62.0887, 66.7048),
        optimiser="sgd_lr_in_velocity",
        lr=0.01,
        momentum=0.9,
        nesterov=True,
        batch_size=64,
        epochs=300,
        schedule="multistep",
        lr_steps=((0, 0.01), (100, 0.001), (200, 0.0001)),
        flip=True,
        shift_px=4.0,
        border="cut",
        validate_on="test",
    ),
    fixed_statistics="cifar10",
)
