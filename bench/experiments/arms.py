"""The experiments and their arms: what is compared with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from alexnet_core.config import TrainConfig

REDUCED = TrainConfig(
    widths=(12, 32, 48, 48, 32),  # an eighth of the paper's
    kernels=(5, 5, 3, 3, 3),  # 11x11 with stride 4 would leave 7x7 of 28 px
    fc_widths=(256, 256),
    dropout=0.5,
    init="he_normal",  # with the paper's N(0, .01) and biases of 1 small pictures are often not learned at all
    image_px=28,
    optimiser="sgd_lr_in_velocity",
    lr=0.02,  # `python -m bench.experiments rates`
    momentum=0.9,
    weight_decay=5e-4,
    batch_size=64,
    epochs=8,
    schedule="one_cycle",
    warmup_fraction=0.2,
    flip=True,
)


@dataclass(frozen=True)
class Arm:
    """One variant in a comparison, with the options in which it differs."""

    name: str
    overrides: Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """Networks to compare: the first one with each of the others."""

    question: str
    arms: tuple[Arm, ...]
    shared: Mapping[str, Any]  #: what all arms have differently from REDUCED
    num_train: int = 15_000  #: the first so many training images, as many of each class
    num_seeds: int = 3
    candidates: tuple[Mapping[str, Any], ...] = ()  #: of which each arm takes what reaches `until_error` soonest
    until_error: float | None = None  #: training error at which a run ends; how soon it does is what is compared
    tests: bool = True  #: whether the test split is read, once, at the end of each run

    def base(self, overrides: Mapping[str, Any]) -> TrainConfig:
        """Return the config that all arms start from, with the changes that the user wants."""
        return REDUCED.with_overrides({**self.shared, **overrides})


EXPERIMENTS = {
    "relu": Experiment(
        "How many steps to 10 % training error, each activation with its own best learning rate and initial weights?",
        arms=(Arm("ReLU", {"activation": "relu"}), Arm("tanh", {"activation": "tanh"})),
        shared={  # the paper's Figure 1: no regularisation of any kind
            "dropout": 0.0, "weight_decay": 0.0, "flip": False, "schedule": "constant", "warmup_fraction": 0.0,
            "epochs": 12, "interval_steps": 25,
        },
        candidates=(
            *({"lr": lr, "init": init} for lr in (0.01, 0.003, 0.03) for init in ("he_normal", "glorot")),
            *({"lr": lr, "init": "he_normal"} for lr in (0.006, 0.001)),  # both were sooner there with he_normal
        ),
        until_error=0.1,
        tests=False,
    ),
    "lrn": Experiment(
        "Does local response normalisation after conv1 and conv2 lower the error?",
        arms=(Arm("LRN", {"norm": "lrn"}), Arm("without", {"norm": "none"})),
        shared={},
    ),
    "pooling": Experiment(
        "Does pooling over 3x3 lower the error beside 2x2, both with stride 2?",
        arms=(Arm("overlapping, 3x3", {"pooling": "overlapping"}), Arm("plain, 2x2", {"pooling": "plain"})),
        shared={},
    ),
    "towers": Experiment(
        "Do two towers lower the error beside one with about as many parameters, and beside one with as many maps?",
        arms=(
            Arm("two towers", {"groups": 2}),
            Arm("one tower, half the maps up to conv4", {"groups": 1, "widths": (6, 16, 24, 24, 32)}),  # section 3.2
            Arm("one tower, as many maps", {"groups": 1}),
        ),
        shared={},
    ),
    "dropout": Experiment(
        "Does dropout lower the error where there are few images for the units?",
        arms=(Arm("dropout", {"dropout": 0.5}), Arm("without", {"dropout": 0.0})),
        shared={"fc_widths": (1024, 1024), "flip": False, "epochs": 25},
        num_train=5_000,
    ),
    "rates": Experiment(
        "Which learning rate for lrn, pooling, towers and dropout? Judged by validation, the test split left out.",
        arms=tuple(Arm(f"lr {lr}", {"lr": lr}) for lr in (0.005, 0.01, 0.02, 0.05)),
        shared={},
        num_seeds=1,
        tests=False,
    ),
}  # fmt: skip
