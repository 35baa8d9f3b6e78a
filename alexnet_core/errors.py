"""What can go wrong in the core. A class is a stable `code`; the message says what was wrong and what to do.

CoreError
├── ConfigError · UnknownRecipe
├── DataError
│   ├── DatasetUnavailable · DatasetChanged
│   └── ImageError
│       └── ImageUnreadable · ImageTooLarge · ImageFormatUnsupported
├── CheckpointError
│   └── CheckpointCorrupt · CheckpointIncompatible
└── TrainingError
    └── Diverged · OutOfMemory · DiskFull
"""

from __future__ import annotations

import inspect
from typing import ClassVar


class CoreError(Exception):
    """Something went wrong in the core."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        self.message = message or inspect.getdoc(type(self)) or self.code
        self.param = param
        super().__init__(self.message)


class ConfigError(CoreError):
    """The config can't be trained."""

    code = "config_invalid"


class UnknownRecipe(ConfigError):
    """There is no such recipe."""

    code = "recipe_not_found"


class DataError(CoreError):
    """The data can't be used."""

    code = "data_invalid"


class DatasetUnavailable(DataError):
    """The dataset's source is not there."""

    code = "dataset_unavailable"


class DatasetChanged(DataError):
    """The dataset is not the one that it was."""

    code = "dataset_changed"


class ImageError(DataError):
    """The image can't be used."""

    code = "image_invalid"


class ImageUnreadable(ImageError):
    """The image can't be read: it is damaged, cut short or no image at all."""

    code = "image_unreadable"


class ImageTooLarge(ImageError):
    """The image has too many pixels."""

    code = "image_too_large"


class ImageFormatUnsupported(ImageError):
    """The image's format is not read here: send JPEG, PNG, WebP, BMP, GIF or TIFF."""

    code = "image_format_unsupported"


class CheckpointError(CoreError):
    """The checkpoint can't be used."""

    code = "checkpoint_invalid"


class CheckpointCorrupt(CheckpointError):
    """A file of the checkpoint is missing or does not match its sha256."""

    code = "checkpoint_corrupt"


class CheckpointIncompatible(CheckpointError):
    """The checkpoint fits neither this config nor this version."""

    code = "checkpoint_incompatible"


class TrainingError(CoreError):
    """The training can't go on."""

    code = "training_failed"


class Diverged(TrainingError):
    """The loss is no longer a finite number: lower `lr`, or take another recipe."""

    code = "diverged"


class OutOfMemory(TrainingError):
    """The device's memory does not hold this job: lower `batch_size` or `image_px`."""

    code = "out_of_memory"


class DiskFull(TrainingError):
    """There is no room for a checkpoint."""

    code = "disk_full"
    retryable = True
