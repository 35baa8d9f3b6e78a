"""A dataset and a network so small that a run takes a fraction of a second."""

from pathlib import Path

import numpy as np

from alexnet_core.config import TrainConfig
from alexnet_core.data.pack import Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.messages import EpochEnd
from alexnet_core.training.hooks import Hooks

CONFIG = TrainConfig(
    widths=(8, 8, 8, 8, 8), kernels=(3, 3, 3, 3, 3), fc_widths=(16, 16), image_px=12, norm="batch", batch_size=16,
    epochs=3, lr=0.02, shift_px=1.0, rotate_deg=5.0, schedule="one_cycle", warmup_fraction=0.2, precision="fp32",
)  # fmt: skip


def write_toy_pack(path: Path) -> Pack:
    """160 noisy images of three classes, each with a bright pixel of its own."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 3, 160)
    images = generator.integers(0, 255, (160, 12, 12, 1)).astype(np.uint8)
    images[np.arange(160), labels * 3] = 255
    split = np.array([0] * 100 + [1] * 30 + [2] * 30, dtype=np.uint8)
    return write_pack(
        path,
        name="toy",
        class_names=("a", "b", "c"),
        images_NHWC=images,
        labels_N=labels,
        split_N=split,
        flip_safe=False,
    )


class QuietHooks(Hooks):
    """Says nothing; stops the run after a step if told so."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.left = stop_after
        self.warnings: list[str] = []
        self.epochs: list[dict[str, float]] = []

    def on_epoch(self, report: EpochEnd) -> None:
        self.epochs.append(report.metrics)

    def on_warning(self, code: str, message: str) -> None:
        self.warnings.append(code)

    def should_stop(self) -> bool:
        if self.left is None:
            return False
        self.left -= 1
        return self.left <= 0
