"""`paper-2012` and `paper-2012-run`: AlexNet as it was printed, and as it was trained for the competition.

    python -m alexnet_core train --dataset <images of 256 px> --recipe paper-2012

Source: A. Krizhevsky, I. Sutskever, G. Hinton: ImageNet classification with deep convolutional neural networks, NIPS
2012, and the training diary and layer parameters in its published source code.
Parameters: 60,965,224 with 1000 classes.
Cost: 4.3 GFLOP an image and training step; about 90 epochs. The authors: five to six days on two GTX 580. Here: 66
images/s on two cores (docs/benchmarks.md), so that one epoch of ImageNet's 1.28 million takes five and a half hours.
Accuracy, published: ILSVRC-2010 test error 37.5 % top-1, 17.0 % top-5 with ten crops (39.0 and 18.3 % with one);
`paper-2012-run` 40.66 % top-1, 18.21 % top-5 on ILSVRC-2012 validation. None measured here: the images can't be had.

What differs from the paper:
- the mean that is subtracted is one value a channel, not one a pixel: it fits crops at any place;
- which epochs count as "stopped improving" was decided by hand in 2012; here after five without a lower error.
What differs from the run: the constant of the norm within maps is not in our sources; the paper's 2 is taken. As for
the paper, the mean that is subtracted is one value a channel. The diary counts epochs from 1, `lr_steps` from 0.
With biases of 1 small datasets often do not learn at all (the loss stays at ln C): `init: caffe` is the cure.
"""

from __future__ import annotations

from alexnet_core.config import TrainConfig
from alexnet_core.recipes.recipe import Recipe

PAPER_2012 = Recipe(
    name="paper-2012",
    title="AlexNet as the paper prints it",
    description="Two towers, local response normalisation, 224 px crops, ten-crop test; 60,965,224 parameters.",
    source=(
        "Krizhevsky, Sutskever and Hinton, NIPS 2012: sections 3.1 to 3.5 (layers), 4.1 (crops, flips, colours), 4.2 "
        "(dropout), 5 (update rule, initial weights, learning rate divided by 10 at three plateaus). 224 px give 55 by "
        "rounding up, as in the authors' code."
    ),
    config=TrainConfig(
        widths=(96, 256, 384, 384, 256),
        kernels=(11, 5, 3, 3, 3),
        conv1_stride=4,
        groups=2,
        padding="ceil",
        fc_widths=(4096, 4096),
        norm="lrn",
        dropout=0.5,
        dropout_form="2012",
        init="paper",
        image_px=224,
        resize_px=256,
        channels=3,
        standardise="mean",
        optimiser="sgd_lr_in_velocity",
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        batch_size=128,
        epochs=90,
        schedule="plateau",
        flip=True,
        random_crop=True,
        colour_std=0.1,
        test_crops=10,
    ),
)

PAPER_2012_RUN = Recipe(
    name="paper-2012-run",
    title="AlexNet as it was trained in 2012",
    description="The competition's run with its diary of learning rates and its code's normalisation; 60,965,224.",
    source=(
        "The published 2012 source code (layers-145.cfg, layer-params-145.cfg) and its diary, which counts epochs from "
        "1: learning rate .01, .001 from epoch 25, .0001 from 51, .00001 from 79; conv1 at 1e-5 and no colour noise "
        "from 67, conv1 frozen from 72; stopped at 91; biases at .02 throughout. conv1 is normalised, pooled, then "
        "activated; a second norm within maps follows conv2's first; the norms stay within a tower and divide alpha by "
        "their size; conv3 to conv5 start from N(0, .03); the colour noise goes by deviations."
    ),
    config=PAPER_2012.config.with_overrides(
        {
            "norm": "lrn_2012_code",
            "lrn_within_tower": True,
            "conv1_order": "normalise_pool_activate",
            "map_norm_layers": ("conv2",),
            "init": "paper_run",
            "epochs": 91,
            "schedule": "multistep",
            "lr_steps": ((0, 0.01), (24, 0.001), (50, 0.0001), (78, 0.00001)),
            "conv1_lr_steps": ((66, 0.00001), (71, 0.0)),
            "bias_lr": 0.02,
            "colour_form": "2012_code",
            "colour_until_epoch": 66,
        }
    ),
)
