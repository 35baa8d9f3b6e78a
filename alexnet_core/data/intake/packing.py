"""Makes a pack from a user's image files, with a report of what was found in them. Torch-free.

`pack_images` takes a folder or an archive; `pack_files` anything that can list and open files. Every image is read
twice: its header, to settle the one shape that all images are stored in; then the whole of it, to decode. Images are
decoded in threads (Pillow works without the interpreter's lock) and written as they come; few are in memory at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from alexnet_core.config import DatasetFacts
from alexnet_core.data.archives.opening import open_archive
from alexnet_core.data.content_keys import choose_keys
from alexnet_core.data.image_readers import FileImages, ImageReader, OpenFile
from alexnet_core.data.inspection.comparison import Contents, compare
from alexnet_core.data.intake.findings import some
from alexnet_core.data.intake.image_table import Described, KeptImages, ShapeTable, describe_images
from alexnet_core.data.intake.near_duplicates import MAX_IMAGES
from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.ordered_map import map_batches, map_in_order
from alexnet_core.data.intake.report import ReportDraft
from alexnet_core.data.layouts.labelled_files import LabelledFile, LabelledFiles, Rejection
from alexnet_core.data.layouts.recognition import recognise
from alexnet_core.data.pack import SPLITS, TEST, TRAIN, VALIDATION, Pack, open_pack
from alexnet_core.data.pack_draft import PackDraft
from alexnet_core.data.sources import FolderSource, Source
from alexnet_core.data.splits import count_held, hold_back
from alexnet_core.data.squares import StoredShape, choose_shape
from alexnet_core.errors import DatasetInvalid, DatasetUnavailable, ImageError, ImageUnreadable

MAX_CLASSES = 30_000  # whoever shows a dataset reads all their names; ImageNet has 21,841
MAX_REJECTED = 0.05  # of the files
_HEADERS_AT_ONCE = 32
_MOST_AT_ONCE, _BYTES_AT_ONCE = 16, 1 << 20  # of images that a thread decodes before it hands them on

R = TypeVar("R")
Progress = Callable[[int, int], None]


def pack_images(
    path: Path,
    target_dir: Path,
    options: IntakeOptions,
    *,
    on_progress: Progress | None = None,
    on_read: Progress | None = None,
) -> Pack:
    """Make the pack of the images in a folder, zip, tar, tar.gz or tar.zst; see `pack_source`.

    Links are rejected, so that nothing from outside the folder or archive is read.

    Args:
        path: the folder or archive.
        target_dir: where the pack will stand. The temporary file of a compressed tar is beside it.
        options: how to take them in.
        on_progress: see `pack_files`.
        on_read: called while a tar is read, before the other; see `open_archive`.

    Raises:
        DatasetUnavailable: there is nothing at that path.
        DatasetInvalid: the archive is refused, or its files can't be trained on.
        OSError: see `pack_files`.
    """
    if path.is_dir():
        return pack_source(FolderSource(path), target_dir, options, on_progress=on_progress)
    if not path.exists():
        raise DatasetUnavailable(f"There is no folder and no file {path}.")
    target_dir.parent.mkdir(parents=True, exist_ok=True)
    opened = open_archive(path, limits=options.archive_limits, spool_dir=target_dir.parent, on_read=on_read)
    with opened as source:
        return pack_source(source, target_dir, options, on_progress=on_progress)


def pack_source(
    source: Source, target_dir: Path, options: IntakeOptions, *, on_progress: Progress | None = None
) -> Pack:
    """Make the pack of the images in a source. The package `layouts` finds out their classes.

    Raises:
        DatasetInvalid: they can't be trained on.
        DatasetUnavailable, DatasetDamaged: see `pack_files`.
        OSError: see `pack_files`.
    """
    recognised = recognise(source)
    if recognised.arrays is not None:
        return _pack(recognised.files, recognised.arrays, target_dir, options, on_progress)
    return pack_files(recognised.files, source.open, target_dir, options, on_progress=on_progress)


def pack_files(
    layout: LabelledFiles,
    open_file: OpenFile,
    target_dir: Path,
    options: IntakeOptions,
    *,
    on_progress: Progress | None = None,
) -> Pack:
    """Make the pack of labelled files, with its `report.json`.

    Where no validation or test split is given, a tenth of each class (at least one image, if it has two) is held back
    from training for it: always the same images, and never one that is also trained on.

    Args:
        layout: which files there are.
        open_file: opens one by its path; called from several threads. An ImageError that it raises rejects the file.
        target_dir: where the pack will stand.
        options: how to take them in.
        on_progress: called with the number of files that are done and that of all; each file counts twice, and where a
            damaged one has decided the stored shape, the second half comes once more. What it raises ends the work.

    Raises:
        DatasetInvalid: fewer than two classes, a class without training images, more than 5 % of the files rejected;
            it carries the report.
        DatasetUnavailable, DatasetDamaged: there is no whole pack at `parent_pack`.
        ValueError: an option is out of range.
        OSError: the disk is full, or a file can't be read for a reason that is not its own.
    """
    with FileImages(open_file, max_pixels=options.max_pixels, max_file_bytes=options.max_file_bytes) as images:
        return _pack(layout, images, target_dir, options, on_progress)


def _pack(
    layout: LabelledFiles, images: ImageReader, target_dir: Path, options: IntakeOptions, progress: Progress | None
) -> Pack:
    parent = None if options.parent_pack is None else open_pack(options.parent_pack)
    intake = _Intake(layout, images, options, progress or (lambda done, total: None))
    intake.require(
        len(layout.files) > 0, "no_images", "there is no file in a class folder. Make a folder for each class."
    )
    intake.require(
        len(layout.class_names) > 1,
        "too_few_classes",
        f"there is only one class, {', '.join(layout.class_names)!r}. Make a folder for each of two or more classes.",
    )
    intake.require(
        len(layout.class_names) <= MAX_CLASSES,
        "too_many_classes",
        f"there are {len(layout.class_names):,} classes, and at most {MAX_CLASSES:,} are allowed. Make a folder for "
        "each class, not for each image.",
    )
    intake.read_headers()
    while True:
        stored = intake.settle_shape()
        shape = {"image_px": stored.side_px, "channels": stored.channels}
        expected = intake.expect(stored)
        with PackDraft(target_dir, **shape, expected=expected) as draft, KeptImages(target_dir.parent, **shape) as kept:
            intake.decode(stored, draft, kept)
            if intake.settle_shape() != stored:
                continue  # a file that turned out to be damaged had decided it
            labels_N = np.fromiter((layout.files[it].label for it in kept.positions), np.int64)
            split_N = intake.split(kept, labels_N)
            intake.require_trainable(labels_N, split_N)
            if parent is not None:
                intake.compare(parent, stored, kept, split_N)
            return draft.commit(
                name=options.name,
                class_names=layout.class_names,
                labels_N=labels_N,
                split_N=split_N,
                flip_safe=options.flip_safe,
                report=intake.report.finish().as_dict(),
                file_names=(layout.files[it].path for it in kept.positions),
                moments=kept.compute_moments(split_N == TRAIN),
            )


def _missing(split_N: NDArray[np.uint8], options: IntakeOptions) -> list[tuple[int, float]]:
    """List the splits that no image is in, with the fraction to hold back for each.

    Validation comes first: without it nothing can be chosen.
    """
    fractions = ((VALIDATION, options.validation_fraction), (TEST, options.test_fraction))
    return [(value, fraction) for value, fraction in fractions if not (split_N == value).any()]


class _Decoded(NamedTuple):
    """What a thread made of some files."""

    taken: list[int]  #: the positions of those that are images
    described: Described | None  #: these images; None: there are none
    rejected: list[tuple[int, Rejection]]  #: the positions of the others, and why


class _Intake:
    """One conversion of image files to a pack, with its report."""

    def __init__(self, layout: LabelledFiles, images: ImageReader, options: IntakeOptions, progress: Progress) -> None:
        self._layout, self._images, self._options, self._progress = layout, images, options, progress
        self._rejected: list[Rejection] = list(layout.rejected)
        self._shapes = ShapeTable(len(layout.files))
        self._with_fingerprints = len(layout.files) <= MAX_IMAGES
        self._threads = options.threads or min(16, os.cpu_count() or 1)
        self._num_done = 0
        self.report = ReportDraft(layout)

    def require(self, condition: bool, problem: str, message: str) -> None:
        """Raise DatasetInvalid with the report if the condition does not hold."""
        if not condition:
            self.report.note_rejected(self._rejected)
            report = self.report.finish().as_dict()
            raise DatasetInvalid(f"The dataset can't be used: {message}", problem=problem, report=report)

    def read_headers(self) -> None:
        """Read the header of every file, and reject files without a usable one."""
        positions = range(len(self._layout.files))
        for position, shape in self._work(
            lambda file: self._images.read_shape(file.path), positions, at_once=_HEADERS_AT_ONCE
        ):
            self._shapes.set(position, shape)
        self._require_few_rejected()

    def settle_shape(self) -> StoredShape:
        """Choose the stored shape from the files that have not been rejected."""
        stored = choose_shape(self._shapes.list_largest(), self._options.image_px)
        self.report.note_stored(stored)
        return stored

    def expect(self, stored: StoredShape) -> DatasetFacts:
        """Return the facts of the pack, if no other file is rejected and no copies keep images from a split."""
        options, files, positions = self._options, self._layout.files, self._shapes.list_positions()
        labels_N = np.fromiter((files[it].label for it in positions), np.int64)
        split_N = np.fromiter((files[it].split or TRAIN for it in positions), np.uint8)
        num_classes = len(self._layout.class_names)
        training_K = np.bincount(labels_N[split_N == TRAIN], minlength=num_classes)
        numbers = {VALIDATION: int((split_N == VALIDATION).sum()), TEST: int((split_N == TEST).sum())}
        for value, fraction in _missing(split_N, options):
            held_K = count_held(training_K, fraction=fraction, at_least=1)
            training_K, numbers[value] = training_K - held_K, int(held_K.sum())
        return DatasetFacts(
            name=options.name,
            num_classes=num_classes,
            class_names=self._layout.class_names,
            image_px=stored.side_px,
            channels=stored.channels,
            flip_safe=options.flip_safe,
            num_train=int(training_K.sum()),
            num_val=numbers[VALIDATION],
            num_test=numbers[TEST],
        )

    def decode(self, stored: StoredShape, draft: PackDraft, kept: KeptImages) -> None:
        """Decode every file that has not been rejected, and append it to the draft."""
        left = self._shapes.list_positions()
        self._num_done = 2 * len(self._layout.files) - len(left)
        at_once = max(1, min(_MOST_AT_ONCE, _BYTES_AT_ONCE // (stored.side_px**2 * stored.channels)))
        decoded = map_batches(lambda batch: self._decode(batch, stored), left, self._threads, at_once=at_once)
        for taken, described, rejected in decoded:
            if described is not None:
                draft.append(described.pixels)
                kept.append(taken, described)
            for position, rejection in rejected:
                self._reject(position, rejection)
            for _ in range(len(taken) + len(rejected)):
                self._count()
        self._require_few_rejected()
        self.report.note_rejected(self._rejected)

    def split(self, kept: KeptImages, labels_N: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the given splits, and make those that are missing. The report is completed."""
        options, files = self._options, self._layout.files
        split_N = np.fromiter((files[it].split or TRAIN for it in kept.positions), np.uint8)
        missing = _missing(split_N, options)
        for number, (value, fraction) in enumerate(missing):
            training = np.flatnonzero(split_N == TRAIN)
            held = hold_back(
                labels_N[training],
                choose_keys(kept.keys, training),
                fraction=fraction,
                at_least=1,
                seed=len(SPLITS) * options.split_seed + number,
            )
            split_N[training[held]] = value
        made = [name for name, value in SPLITS.items() if value in dict(missing)]
        self.report.describe(kept, self._shapes, labels_N, split_N, made)
        return split_N

    def compare(self, parent: Pack, stored: StoredShape, kept: KeptImages, split_N: NDArray[np.uint8]) -> None:
        """Add to the report what differs from the version before."""
        files = [self._layout.files[position] for position in kept.positions]
        contents = Contents(
            name=self._options.name,
            class_names=self._layout.class_names,
            image_px=stored.side_px,
            channels=stored.channels,
            keys=kept.list_keys(),
            labels=np.array([file.label for file in files], dtype=np.int64),
            split=split_N,
            files=[file.path for file in files],
        )
        self.report.note_diff(compare(Contents.of(parent), contents))

    def require_trainable(self, labels_N: NDArray[np.int64], split_N: NDArray[np.uint8]) -> None:
        """Refuse a dataset that no run could train on."""
        untrained = np.bincount(labels_N[split_N == TRAIN], minlength=len(self._layout.class_names)) == 0
        names = [name for name, empty in zip(self._layout.class_names, untrained, strict=True) if empty]
        self.require(
            not names,
            "class_without_training_images",
            f"no usable images to train on in {some(names)}. Add some, or remove the class everywhere.",
        )
        self.require(
            bool((split_N == VALIDATION).any()),
            "too_few_images",
            "no class has an image to spare for validation: it takes two different ones, and copies stay together. Add "
            "images, or remove copies.",
        )

    def _require_few_rejected(self) -> None:
        num_files = len(self._layout.files) + len(self._layout.rejected)
        rejected = self._rejected
        first = "; ".join(f"{it.file!a:.120}: {it.reason}" for it in rejected[:3])
        self.require(
            len(rejected) <= MAX_REJECTED * num_files,
            "too_many_rejected",
            f"{len(rejected)} of {num_files} files are no usable images, more than {MAX_REJECTED:.0%}. {first}",
        )

    def _work(
        self, function: Callable[[LabelledFile], R], positions: Sequence[int], *, at_once: int
    ) -> Iterator[tuple[int, R]]:
        """Apply a function to some files and yield its results in order, without those of rejected files."""
        results = map_in_order(
            lambda position: self._attempt(function, position), positions, self._threads, at_once=at_once
        )
        for position, result in zip(positions, results, strict=True):
            self._count()
            if isinstance(result, Rejection):
                self._reject(position, result)
            else:
                yield position, result

    def _attempt(self, function: Callable[[LabelledFile], R], position: int) -> R | Rejection:
        file = self._layout.files[position]
        try:
            return function(file)
        except ImageError as exc:
            return Rejection(file.path, exc.code, exc.message)
        except (FileNotFoundError, PermissionError) as exc:
            return Rejection(file.path, ImageUnreadable.code, f"It can't be opened: {exc.strerror}.")

    def _count(self) -> None:
        self._num_done += 1
        self._progress(self._num_done, 2 * len(self._layout.files))

    def _reject(self, position: int, rejection: Rejection) -> None:
        self._rejected.append(rejection)
        self._shapes.remove(position)

    def _decode(self, positions: list[int], stored: StoredShape) -> _Decoded:
        """Decode some files, and describe those that are images."""
        taken, squares, rejected = [], [], []
        for position in positions:
            square = self._attempt(lambda file: self._images.read_square(file.path, stored), position)
            if isinstance(square, Rejection):
                rejected.append((position, square))
            else:
                taken.append(position)
                squares.append(square)
        described = describe_images(squares, with_fingerprints=self._with_fingerprints) if squares else None
        return _Decoded(taken, described, rejected)
