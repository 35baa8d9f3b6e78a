"""`caffe`: the bvlc_alexnet of the Caffe model zoo.

    python -m alexnet_core train --dataset <images of 256 px> --recipe caffe

Source: Caffe's models/bvlc_alexnet (train_val.prototxt, solver.prototxt, readme.md).
Parameters: 60,965,224 with 1000 classes.
Cost: 4.3 GFLOP an image and training step; 450,000 steps of 256 images, about 90 epochs of ImageNet.
Accuracy, published with its weights (iteration 360,000): ImageNet validation 57.1 % top-1, 80.2 % top-5 with one crop.
None measured here: the images can't be had.

Differences from Caffe: the channels have the order red, green, blue; there is one mean for each channel instead of one
for each pixel, which `standardise: pixel_mean` has; the steps of the learning rate are counted in epochs, where 100,000
steps of 256 images are 20 passes over ImageNet.
"""

from __future__ import annotations

from alexnet_core.config import TrainConfig
from alexnet_core.recipes.recipe import Recipe

CAFFE = Recipe(
    name="caffe",
    title="AlexNet as Caffe's model zoo has it",
    description="227 px without padding, k = 1 in the response norm, smaller initial weights; 60,965,224 parameters.",
    source=(
        "Caffe's bvlc_alexnet: response norm after the activation with k = 1 and alpha / 5, N(0, .005) in fc6 and fc7, "
        "biases .1; batches of 256, learning rate .01 times .1 each 20 epochs, biases learn twice as fast, no decay of "
        "biases."
    ),
    config=TrainConfig(
        widths=(96, 256, 384, 384, 256),
        kernels=(11, 5, 3, 3, 3),
        conv1_stride=4,
        groups=2,
        padding="valid",
        fc_widths=(4096, 4096),
        norm="lrn_caffe",
        dropout=0.5,
        init="caffe",
        image_px=227,
        resize_px=256,
        channels=3,
        standardise="mean",
        optimiser="sgd_lr_in_velocity",
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        bias_lr_factor=2.0,
        batch_size=256,
        epochs=90,
        schedule="multistep",
        lr_steps=((0, 1e-2), (20, 1e-3), (40, 1e-4), (60, 1e-5), (80, 1e-6)),
        flip=True,
        random_crop=True,
    ),
)
