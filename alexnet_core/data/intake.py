"""Makes a pack from a user's image files, with a report of what was found in them. Torch-free.

`pack_folder` takes a folder; `pack_files` anything that can list and open files, as an archive does. Every file is read
twice: its header, to settle the one shape that all images are stored in; then the whole of it, to decode. Images are
decoded in threads (Pillow works without the interpreter's lock) and written as they come; few are in memory at a time.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data import imagenet
from alexnet_core.data.folders import FolderLayout, LabelledFile, list_paths, read_layout
from alexnet_core.data.headers import MAX_PIXELS
from alexnet_core.data.images import decode_image
from alexnet_core.data.pack import SPLITS, TEST, TRAIN, VALIDATION, Pack, PackDraft
from alexnet_core.data.splits import content_key, hold_back
from alexnet_core.data.squares import ImageShape, StoredShape, choose_shape, cut_square, read_shape
from alexnet_core.errors import DatasetInvalid, DatasetUnavailable, ImageError, ImageTooLarge, ImageUnreadable

MAX_REJECTED = 0.05  # of the files
FEW_IMAGES = 20  # to train a class on: fewer is worth a warning
MAX_IMBALANCE = 100  # between the largest and the smallest class: more is worth a warning
_MAX_LISTED = 1000  # groups of duplicates in a report
_WINDOW = 4  # files a thread that are under way

T = TypeVar("T")
R = TypeVar("R")


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
    max_file_bytes: int = 20 * 1024 * 1024
    """Largest file that is read."""
    threads: int | None = None
    """That decode. None: as many as there are cores, at most 16."""


@dataclass(frozen=True)
class Rejection:
    """A file that is not used, and why."""

    file: str
    code: str  #: of the error, as `image_unreadable`
    reason: str


@dataclass(frozen=True)
class _Kept:
    """The files whose images are in the draft, in order."""

    files: list[LabelledFile]
    keys: list[bytes]  #: of their stored pixels


OpenFile = Callable[[str], AbstractContextManager[IO[bytes]]]
Progress = Callable[[int, int], None]


def pack_folder(folder: Path, target_dir: Path, options: IntakeOptions, *, on_progress: Progress | None = None) -> Pack:
    """Make the pack of a folder of class folders, or of ImageNet's folder; `folders` and `imagenet` have the rules.

    Links are rejected, so that a folder brings in nothing from outside it.

    Raises:
        DatasetUnavailable: there is no such folder.
        DatasetInvalid: its files can't be trained on.
    """
    if not folder.is_dir():
        raise DatasetUnavailable(f"There is no folder {folder}.")

    def open_file(path: str) -> AbstractContextManager[IO[bytes]]:
        inside = folder / path
        if inside.is_symlink() or not inside.is_file():
            raise ImageUnreadable("It is a link or no file.")
        return inside.open("rb")

    return pack_files(_read_layout(folder), open_file, target_dir, options, on_progress=on_progress)


def _read_layout(folder: Path) -> FolderLayout:
    if not imagenet.is_published_folder(folder):
        return read_layout(list_paths(folder))
    places = imagenet.arrange(folder, list_paths(folder))
    paths = {place: path for path, place in places.items()}
    layout = read_layout(places.values())
    return replace(layout, files=tuple(replace(file, path=paths[file.path]) for file in layout.files))


def pack_files(
    layout: FolderLayout,
    open_file: OpenFile,
    target_dir: Path,
    options: IntakeOptions,
    *,
    on_progress: Progress | None = None,
) -> Pack:
    """Make the pack of labelled files, with its `report.json`.

    Where the tree has no validation or test split, a tenth of each class (at least one image, if it has two) is held
    back from training for it: always the same images, and never one that is also trained on.

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
        ValueError: an option is out of range.
        OSError: the disk is full, or a file can't be read for a reason that is not its own.
    """
    intake = _Intake(layout, open_file, options, on_progress or (lambda done, total: None))
    intake.require(
        len(layout.files) > 0, "no_images", "there is no file in a class folder. Make a folder for each class."
    )
    intake.require(
        len(layout.class_names) > 1,
        "too_few_classes",
        f"there is only one class, {', '.join(layout.class_names)!r}. Make a folder for each of two or more classes.",
    )
    intake.read_headers()
    while True:
        stored = intake.settle_shape()
        with PackDraft(target_dir, image_px=stored.side_px, channels=stored.channels) as draft:
            kept = intake.decode(stored, draft)
            if intake.settle_shape() != stored:
                continue  # a file that turned out to be damaged had decided it
            labels_N = np.array([file.label for file in kept.files], dtype=np.int64)
            split_N = intake.split(kept, labels_N)
            intake.describe(kept, labels_N, split_N)
            intake.require_trainable(labels_N, split_N)
            return draft.commit(
                name=options.name,
                class_names=layout.class_names,
                labels_N=labels_N,
                split_N=split_N,
                flip_safe=options.flip_safe,
                report=intake.report,
            )


class _Intake:
    """One conversion of image files to a pack, with its report."""

    def __init__(self, layout: FolderLayout, open_file: OpenFile, options: IntakeOptions, progress: Progress) -> None:
        self._layout, self._open, self._options, self._progress = layout, open_file, options, progress
        self._rejected: list[Rejection] = []
        self._shapes: dict[str, ImageShape] = {}  #: by path
        self._num_done = 0
        self.report: dict[str, Any] = {
            "num_files": len(layout.files),
            "num_junk": layout.num_junk,
            "outside_classes": list(layout.outside),
            "empty_classes": list(layout.empty),
            "rejected": [],
            "warnings": [],
        }
        if layout.empty:
            self._warn(f"class folders without a file are left out: {_some(layout.empty)}")
        if layout.outside:
            self._warn(f"{len(layout.outside)} files are in no class folder and are left out: {_some(layout.outside)}")

    def require(self, condition: bool, problem: str, message: str) -> None:
        """Raise DatasetInvalid with the report if the condition does not hold."""
        if not condition:
            self.report["rejected"] = [asdict(rejection) for rejection in self._rejected]
            raise DatasetInvalid(f"The dataset can't be used: {message}", problem=problem, report=self.report)

    def read_headers(self) -> None:
        """Read the header of every file, and reject files without a usable one."""
        self._shapes = {file.path: shape for file, shape in self._work(self._read_shape, self._layout.files)}
        self._require_few_rejected()

    def settle_shape(self) -> StoredShape:
        """Choose the stored shape from the files that have not been rejected."""
        rejected = {rejection.file for rejection in self._rejected}
        shapes = [shape for path, shape in self._shapes.items() if path not in rejected]
        stored = choose_shape(shapes, self._options.image_px)
        self.report |= {"image_px": stored.side_px, "channels": stored.channels}
        return stored

    def decode(self, stored: StoredShape, draft: PackDraft) -> _Kept:
        """Decode every file that has not been rejected, and append it to the draft."""
        rejected = {rejection.file for rejection in self._rejected}
        left = [file for file in self._layout.files if file.path not in rejected]
        self._num_done = len(self._layout.files) + len(rejected)
        kept = _Kept([], [])
        for file, (pixels, key) in self._work(lambda file: self._decode(file, stored), left):
            draft.append(pixels[None])
            kept.files.append(file)
            kept.keys.append(key)
        self._require_few_rejected()
        self.report["rejected"] = [asdict(rejection) for rejection in self._rejected]
        return kept

    def split(self, kept: _Kept, labels_N: NDArray[np.int64]) -> NDArray[np.uint8]:
        """Return the splits of the tree, and make those that it lacks."""
        split_N = np.array([file.split or TRAIN for file in kept.files], dtype=np.uint8)
        made = [name for name, value in (("validation", VALIDATION), ("test", TEST)) if not (split_N == value).any()]
        for seed, name in enumerate(made):  # validation first: without it nothing can be chosen
            training = np.flatnonzero(split_N == TRAIN)
            keys = [kept.keys[index] for index in training]
            held = hold_back(labels_N[training], keys, at_least=1, seed=seed)
            split_N[training[held]] = SPLITS[name]
        self.report["made_splits"] = made
        return split_N

    def describe(self, kept: _Kept, labels_N: NDArray[np.int64], split_N: NDArray[np.uint8]) -> None:
        """Count the classes, and collect warnings."""
        side_px = self.report["image_px"]
        num_smaller = sum(self._shapes[file.path].shorter_px < side_px for file in kept.files)
        if num_smaller:
            self._warn(f"{num_smaller} images are smaller than {side_px} px and were enlarged")
        counts = np.zeros((len(self._layout.class_names), len(SPLITS)), dtype=np.int64)
        np.add.at(counts, (labels_N, split_N), 1)
        self.report["num_images"] = len(kept.files)
        self.report["classes"] = [
            {"name": name, **{split: int(row[value]) for split, value in SPLITS.items()}}
            for name, row in zip(self._layout.class_names, counts, strict=True)
        ]
        few = [name for name, row in zip(self._layout.class_names, counts, strict=True) if row[TRAIN] < FEW_IMAGES]
        if few:
            self._warn(f"{len(few)} classes have fewer than {FEW_IMAGES} images to train on: {_some(few)}")
        totals = counts.sum(axis=1)
        if totals.max() > MAX_IMBALANCE * totals.min():
            largest, smallest = (self._layout.class_names[index] for index in (totals.argmax(), totals.argmin()))
            self._warn(f"{largest!r} has more than {MAX_IMBALANCE} times as many images as {smallest!r}")
        self._find_duplicates(kept, split_N)

    def require_trainable(self, labels_N: NDArray[np.int64], split_N: NDArray[np.uint8]) -> None:
        """Refuse a dataset that no run could train on."""
        untrained = np.bincount(labels_N[split_N == TRAIN], minlength=len(self._layout.class_names)) == 0
        names = [name for name, empty in zip(self._layout.class_names, untrained, strict=True) if empty]
        self.require(
            not names,
            "class_without_training_images",
            f"no usable images to train on in {_some(names)}. Add some, or remove the class everywhere.",
        )
        self.require(
            bool((split_N == VALIDATION).any()),
            "too_few_images",
            "no class has two different images, so that one could be validated on. Add images.",
        )

    def _find_duplicates(self, kept: _Kept, split_N: NDArray[np.uint8]) -> None:
        groups: dict[bytes, list[int]] = defaultdict(list)
        counts = Counter(kept.keys)
        for index, key in enumerate(kept.keys):
            if counts[key] > 1:
                groups[key].append(index)
        across_splits = [group for group in groups.values() if len(set(split_N[group])) > 1]
        across_classes = [group for group in groups.values() if len({kept.files[it].label for it in group}) > 1]
        self.report["duplicates"] = {
            "num_copies": sum(len(group) - 1 for group in groups.values()),
            "num_across_splits": len(across_splits),
            "num_across_classes": len(across_classes),
            "across_splits": [[kept.files[it].path for it in group] for group in across_splits[:_MAX_LISTED]],
            "across_classes": [[kept.files[it].path for it in group] for group in across_classes[:_MAX_LISTED]],
        }
        if across_splits:
            self._warn(f"{len(across_splits)} images are in more than one split: accuracies will be too high")
        if across_classes:
            self._warn(f"{len(across_classes)} images are in more than one class: they can't be learned")

    def _require_few_rejected(self) -> None:
        num_files, rejected = len(self._layout.files), self._rejected
        first = "; ".join(f"{it.file!a:.120}: {it.reason}" for it in rejected[:3])
        self.require(
            len(rejected) <= MAX_REJECTED * num_files,
            "too_many_rejected",
            f"{len(rejected)} of {num_files} files are no usable images, more than {MAX_REJECTED:.0%}. {first}",
        )

    def _work(
        self, function: Callable[[LabelledFile], R], files: Sequence[LabelledFile]
    ) -> Iterator[tuple[LabelledFile, R]]:
        """Apply a function to each file and yield its results in order, without those of rejected files."""

        def attempt(file: LabelledFile) -> R | Rejection:
            try:
                return function(file)
            except ImageError as exc:
                return Rejection(file.path, exc.code, exc.message)
            except (FileNotFoundError, PermissionError) as exc:
                return Rejection(file.path, ImageUnreadable.code, f"It can't be opened: {exc.strerror}.")

        threads = self._options.threads or min(16, os.cpu_count() or 1)
        for file, result in zip(files, _map_in_order(attempt, files, threads), strict=True):
            self._num_done += 1
            self._progress(self._num_done, 2 * len(self._layout.files))
            if isinstance(result, Rejection):
                self._rejected.append(result)
            else:
                yield file, result

    def _read_shape(self, file: LabelledFile) -> ImageShape:
        with self._open(file.path) as opened:
            bounded = cast(IO[bytes], _BoundedFile(opened, self._options.max_file_bytes))
            return read_shape(bounded, max_pixels=self._options.max_pixels)

    def _decode(self, file: LabelledFile, stored: StoredShape) -> tuple[NDArray[np.uint8], bytes]:
        with self._open(file.path) as opened:
            data = _BoundedFile(opened, self._options.max_file_bytes).read()
        pixels = cut_square(decode_image(data, max_pixels=self._options.max_pixels), stored)
        return pixels, content_key(pixels)

    def _warn(self, message: str) -> None:
        self.report["warnings"].append(message)


class _BoundedFile:
    """A file that can be read only up to a limit: some decoders read all of a file to know its header.

    Args:
        file: open, at its start.
        max_bytes: of the file; what lies behind raises ImageTooLarge.
    """

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file, self._max_bytes = file, max_bytes
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """See `IO.read`."""
        left = max(0, self._max_bytes + 1 - self._file.tell())
        data = self._file.read(left if size < 0 else min(size, left))
        if self._file.tell() > self._max_bytes:
            raise ImageTooLarge(f"The file has more than {self._max_bytes:,} bytes.")
        return data


def _map_in_order(function: Callable[[T], R], items: Iterable[T], threads: int) -> Iterator[R]:
    """Run `map` in threads, with only a few results waiting at a time."""
    with ThreadPoolExecutor(threads, thread_name_prefix="intake") as pool:
        window: deque[Future[R]] = deque()
        try:
            for item in items:
                window.append(pool.submit(function, item))
                if len(window) >= _WINDOW * threads:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            for future in window:
                future.cancel()


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(repr(name) for name in names[:5]) + more
