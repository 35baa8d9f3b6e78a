"""The errors of the core. The docstring of a class is its default message.

CoreError
├── ConfigError                  config_invalid
│   └── UnknownRecipe            recipe_not_found
├── DataError
│   ├── DatasetUnavailable       dataset_unavailable
│   ├── DatasetChanged           dataset_changed
│   │   └── DatasetDamaged       dataset_damaged
│   ├── DatasetInvalid           dataset_invalid
│   └── ImageError
│       ├── ImageUnreadable          image_unreadable
│       ├── ImageTooLarge            image_too_large
│       └── ImageFormatUnsupported   image_format_unsupported
├── CheckpointError
│   ├── CheckpointCorrupt        checkpoint_corrupt
│   ├── CheckpointIncompatible   checkpoint_incompatible
│   └── ExportUnsupported        export_unsupported
└── TrainingError
    ├── Diverged                 diverged
    ├── OutOfMemory              out_of_memory
    └── DiskFull                 disk_full
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar


class CoreError(Exception):
    """The core failed."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False  #: the same run may succeed later without a change by its owner

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())

    @property
    def message(self) -> str:
        """The message: cause, value and what to do."""
        return str(self)


class ConfigError(CoreError):
    """The configuration is not valid: correct the named value."""

    code = "config_invalid"

    def __init__(self, message: str | None = None, *, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param  #: dotted path of the offending value, as `overrides.lr`


class UnknownRecipe(ConfigError):
    """There is no recipe of that name: list them and choose one."""

    code = "recipe_not_found"


class DataError(CoreError):
    """The data cannot be used."""

    code = "data_invalid"


class DatasetUnavailable(DataError):
    """The dataset's source files were not found: install or download them, or name their folder."""

    code = "dataset_unavailable"


class DatasetChanged(DataError):
    """The dataset's content is not what it was: prepare it again and start a new job."""

    code = "dataset_changed"


class DatasetDamaged(DatasetChanged):
    """The dataset's pack is damaged on disk: prepare it again; a built-in one is made again automatically."""

    code = "dataset_damaged"
    retryable = True


class DatasetInvalid(DataError):
    """The dataset's files cannot be trained on: correct what is named and try again."""

    code = "dataset_invalid"

    def __init__(
        self, message: str | None = None, *, problem: str = "invalid", report: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.problem = problem  #: what is wrong, for programs: `too_few_classes`, `too_many_rejected`…
        self.report = report  #: what was found until then


class ImageError(DataError):
    """The image cannot be used."""

    code = "image_invalid"


class ImageUnreadable(ImageError):
    """The image is damaged or incomplete: send it again."""

    code = "image_unreadable"


class ImageTooLarge(ImageError):
    """The image has too many pixels: scale it down first."""

    code = "image_too_large"


class ImageFormatUnsupported(ImageError):
    """The file is not an image of a supported format: send JPEG, PNG, WebP, BMP, GIF, TIFF, AVIF or HEIC."""

    code = "image_format_unsupported"


class CheckpointError(CoreError):
    """The checkpoint cannot be used."""

    code = "checkpoint_invalid"


class CheckpointCorrupt(CheckpointError):
    """The checkpoint's files are not what its manifest lists: use another checkpoint."""

    code = "checkpoint_corrupt"


class CheckpointIncompatible(CheckpointError):
    """The checkpoint does not fit this run or this version: use one of the same network and dataset."""

    code = "checkpoint_incompatible"


class ExportUnsupported(CheckpointError):
    """The checkpoint's network cannot be expressed in that format: use another one."""

    code = "export_unsupported"


class TrainingError(CoreError):
    """The training run cannot go on."""

    code = "training_failed"


class Diverged(TrainingError):
    """The loss is no longer a finite number: use a lower learning rate."""

    code = "diverged"


class OutOfMemory(TrainingError):
    """The device has no memory left: use a smaller batch_size or image_px."""

    code = "out_of_memory"


class DiskFull(TrainingError):
    """The disk is full: free some space and resume the job."""

    code = "disk_full"
    retryable = True


def explain_memory(exc: BaseException) -> OutOfMemory | None:
    """Translate an error that means that a GPU or this machine ran out of memory. None: it is another error.

    It does not load torch: without it the error is none of a GPU's, and memory may be short.
    """
    torch = sys.modules.get("torch")
    kinds = (MemoryError,) if torch is None else (MemoryError, torch.cuda.OutOfMemoryError)
    if not isinstance(exc, kinds) and "can't allocate memory" not in str(exc):
        return None
    summary = (str(exc).splitlines() or ["MemoryError"])[0]
    return OutOfMemory(f"memory ran out ({summary}): lower batch_size")
