"""Defines the options for making a pack from images. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from alexnet_core.data.archives.members import ArchiveLimits
from alexnet_core.data.headers import MAX_PIXELS
from alexnet_core.data.image_readers import MAX_FILE_BYTES
from alexnet_core.data.splits import TENTH

MIN_FRACTION, MAX_FRACTION = 0.01, 0.5


@dataclass(frozen=True)
class IntakeOptions:
    """The options for making a pack from image files."""

    name: str
    """The dataset's name."""
    image_px: int | None = None
    """Side of the stored images, 8 to 256. None: see `squares.choose_shape`."""
    flip_safe: bool = True
    """Whether a mirrored image still shows its class."""
    max_pixels: int = MAX_PIXELS
    """Largest image that is decoded."""
    max_file_bytes: int = MAX_FILE_BYTES
    """Largest file that is read."""
    threads: int | None = None
    """That decode. None: as many as there are cores, at most 16."""
    validation_fraction: float = TENTH
    """The fraction of each class to validate on if the images come without a validation split; 0.01 to 0.5."""
    test_fraction: float = TENTH
    """The fraction of the rest of each class to test on if the images come without a test split; 0.01 to 0.5."""
    split_seed: int = 0
    """The seed of the choice of validation and test images."""
    parent_pack: Path | None = None
    """The pack of an earlier version of the dataset: the report says what differs from it. None: there is none."""
    archive_limits: ArchiveLimits = field(default_factory=ArchiveLimits)
    """The limits on the size of an archive."""

    def __post_init__(self) -> None:
        """Refuse fractions that leave too little to train or validate on.

        Raises:
            ValueError: one is out of range.
        """
        for name in ("validation_fraction", "test_fraction"):
            if not MIN_FRACTION <= getattr(self, name) <= MAX_FRACTION:
                raise ValueError(f"{name} is {getattr(self, name)}: use {MIN_FRACTION} to {MAX_FRACTION}")
