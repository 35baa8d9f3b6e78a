"""Makes the report on a dataset while its pack is made. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.content_keys import Copies
from alexnet_core.data.inspection.comparison import PackDiff
from alexnet_core.data.intake.dataset_report import (
    ClassCount,
    DatasetReport,
    Duplicates,
    LayoutFound,
    NearDuplicateGroups,
    Sizes,
    Spread,
)
from alexnet_core.data.intake.findings import Finding, FindingCode, some
from alexnet_core.data.intake.image_table import KeptImages, ShapeTable
from alexnet_core.data.intake.near_duplicates import find_near_duplicates
from alexnet_core.data.layouts.class_names import find_similar
from alexnet_core.data.layouts.labelled_files import LabelledFiles, Rejection
from alexnet_core.data.pack import SPLITS, TRAIN
from alexnet_core.data.squares import StoredShape

FEW_IMAGES = 20  # to train a class on: fewer is worth a warning
MAX_IMBALANCE = 100  # between the largest and the smallest class: more is worth a warning
MAX_REJECTED_LISTED = 10_000  # files: an archive may have a million, and a report is read in one piece
_MAX_LISTED = 1000  # groups of duplicates, and files or folders without a class, in a report
_MAX_OF_A_GROUP = 20  # files of a group of near duplicates


@dataclass(frozen=True)
class _Places:
    """The class and split of each image, for groups of images that should be in one."""

    labels: NDArray[np.int64]
    splits: NDArray[np.uint8]

    def across_splits(self, groups: list[list[int]]) -> list[list[int]]:
        """Return the groups that are in more than one split."""
        return [group for group in groups if len(set(self.splits[group])) > 1]

    def across_classes(self, groups: list[list[int]]) -> list[list[int]]:
        """Return the groups that are in more than one class."""
        return [group for group in groups if len(set(self.labels[group])) > 1]


class ReportDraft:
    """Collects what is found while a pack is made."""

    def __init__(self, layout: LabelledFiles) -> None:
        self._layout = layout
        self._findings: list[Finding] = []
        self._report = DatasetReport(
            num_files=len(layout.files) + len(layout.rejected),
            num_junk=layout.num_junk,
            layout=LayoutFound(layout.kind, [*layout.notes, *_tell_of_junk(layout.num_junk)]),
            outside_classes=list(layout.outside[:_MAX_LISTED]),
            empty_classes=list(layout.empty[:_MAX_LISTED]),
            rejected=[],
        )
        if layout.empty:
            self._find(
                FindingCode.EMPTY_CLASSES,
                f"class folders without a file are left out: {some(layout.empty)}",
                "Put images into them, or remove the folders.",
            )
        if layout.outside:
            of_manifest = layout.kind == "manifest"
            where = "named by no manifest" if of_manifest else "in no class folder"
            self._find(
                FindingCode.OUTSIDE_CLASSES,
                f"{len(layout.outside)} files are {where} and are left out: {some(layout.outside)}",
                "Name them in the manifest, with their class." if of_manifest else "Move images to their class folder.",
            )
        for group in find_similar(layout.class_names)[:_MAX_LISTED]:
            self._find(
                FindingCode.CLASS_NAMES_SIMILAR,
                f"the names of the classes {some(group)} are similar",
                "Merge them if they mean the same.",
            )

    def finish(self) -> DatasetReport:
        """Return the report so far."""
        warnings = [finding.message for finding in self._findings]
        return replace(self._report, warnings=warnings, findings=list(self._findings))

    def note_rejected(self, rejected: Sequence[Rejection]) -> None:
        """Store the files that are not used, of very many the first ones."""
        listed = list(rejected[:MAX_REJECTED_LISTED])
        self._report = replace(self._report, num_rejected=len(rejected), rejected=listed)

    def note_stored(self, stored: StoredShape) -> None:
        """Store the shape of the stored images."""
        self._report = replace(self._report, image_px=stored.side_px, channels=stored.channels)

    def note_diff(self, diff: PackDiff) -> None:
        """Store what differs from the version before."""
        self._report = replace(self._report, diff=diff)

    def describe(
        self,
        kept: KeptImages,
        shapes: ShapeTable,
        labels_N: NDArray[np.int64],
        split_N: NDArray[np.uint8],
        made_splits: Sequence[str],
    ) -> None:
        """Count images by class, split, size and colour mode, and collect findings.

        Args:
            kept: the images.
            shapes: of their files.
            labels_N: the images' classes.
            split_N: their splits.
            made_splits: the splits that were not given.
        """
        self._report = replace(self._report, made_splits=list(made_splits), num_images=len(kept.positions))
        self._describe_shapes(shapes)
        self._describe_classes(labels_N, split_N)
        if num_rejected := self._report.num_rejected:
            self._find(
                FindingCode.REJECTED_FILES,
                f"{num_rejected} files are no usable images and are left out",
                "Look at `rejected` for the reason of each, and save them again or remove them.",
            )
        places, copies = _Places(labels_N, split_N), Copies(kept.keys)
        self._describe_duplicates(kept, copies, places)
        self._describe_near_duplicates(kept, copies, places)

    def _describe_shapes(self, shapes: ShapeTable) -> None:
        sizes_N2 = shapes.sizes()
        modes, formats = shapes.count_kinds()
        sizes = Sizes(_spread(sizes_N2[:, 0]), _spread(sizes_N2[:, 1]))
        self._report = replace(self._report, sizes=sizes, colour_modes=modes, formats=formats)
        side_px = self._report.image_px
        assert side_px is not None
        if num_smaller := int((sizes_N2.min(axis=1) < side_px).sum()):
            self._find(
                FindingCode.ENLARGED_IMAGES,
                f"{num_smaller} images are smaller than {side_px} px and were enlarged",
                "Use larger ones if there are any, or store all images smaller (image_px).",
            )

    def _describe_classes(self, labels_N: NDArray[np.int64], split_N: NDArray[np.uint8]) -> None:
        names = self._layout.class_names
        counts = np.zeros((len(names), len(SPLITS)), dtype=np.int64)
        np.add.at(counts, (labels_N, split_N), 1)
        classes = [
            ClassCount(name, **{split: int(row[value]) for split, value in SPLITS.items()})
            for name, row in zip(names, counts, strict=True)
        ]
        self._report = replace(self._report, classes=classes)
        few = [name for name, row in zip(names, counts, strict=True) if row[TRAIN] < FEW_IMAGES]
        if few:
            self._find(
                FindingCode.NEARLY_EMPTY_CLASSES,
                f"{len(few)} classes have fewer than {FEW_IMAGES} images to train on: {some(few)}",
                "Add images of these classes, or leave the classes out.",
            )
        totals = counts.sum(axis=1)
        if totals.max() > MAX_IMBALANCE * totals.min():
            largest, smallest = (names[index] for index in (totals.argmax(), totals.argmin()))
            self._find(
                FindingCode.IMBALANCE,
                f"{largest!r} has more than {MAX_IMBALANCE} times as many images as {smallest!r}",
                "Add images of small classes or leave some of large ones out: a network can be right nearly always by "
                "naming large ones.",
            )

    def _describe_duplicates(self, kept: KeptImages, copies: Copies, places: _Places) -> None:
        groups = [copies.members(group) for group in copies.list_repeated()]
        across_splits, across_classes = places.across_splits(groups), places.across_classes(groups)
        num_copies = sum(len(group) - 1 for group in groups)
        duplicates = Duplicates(
            num_copies=num_copies,
            num_across_splits=len(across_splits),
            num_across_classes=len(across_classes),
            across_splits=[self._list_files(kept, group) for group in across_splits[:_MAX_LISTED]],
            across_classes=[self._list_files(kept, group) for group in across_classes[:_MAX_LISTED]],
        )
        self._report = replace(self._report, duplicates=duplicates)
        if num_copies:
            self._find(
                FindingCode.COPIES,
                f"{num_copies} images are copies of others",
                "Remove copies: they count several times in training and in accuracies.",
            )
        if across_splits:
            self._find(
                FindingCode.DUPLICATES_ACROSS_SPLITS,
                f"{len(across_splits)} images are in more than one split: accuracies will be too high",
                "Remove them from all splits but one; `duplicates` lists them.",
            )
        if across_classes:
            self._find(
                FindingCode.DUPLICATES_ACROSS_CLASSES,
                f"{len(across_classes)} images are in more than one class: they can't be learned",
                "Leave each in the class that is right; `duplicates` lists them.",
            )

    def _describe_near_duplicates(self, kept: KeptImages, copies: Copies, places: _Places) -> None:
        found = find_near_duplicates(kept.fingerprints, copies.first)
        groups = [[index for place in group for index in copies.members(place)] for group in found.groups]
        across_splits, across_classes = places.across_splits(groups), places.across_classes(groups)
        across = {id(group) for group in [*across_splits, *across_classes]}
        within = [group for group in groups if id(group) not in across]
        near = NearDuplicateGroups(
            is_complete=found.is_complete,
            num_groups=len(groups),
            num_across_splits=len(across_splits),
            num_across_classes=len(across_classes),
            across_splits=self._list_some_files(kept, across_splits),
            across_classes=self._list_some_files(kept, across_classes),
            within=self._list_some_files(kept, within),
        )
        self._report = replace(self._report, near_duplicates=near)
        look = "`near_duplicates` lists them; look at some, for a program can't tell for sure."
        if across_splits:
            self._find(
                FindingCode.NEAR_DUPLICATES_ACROSS_SPLITS,
                f"{len(across_splits)} groups of nearly the same images are in more than one split",
                f"Keep each group in one split, or accuracies will be too high; {look}",
            )
        if across_classes:
            self._find(
                FindingCode.NEAR_DUPLICATES_ACROSS_CLASSES,
                f"{len(across_classes)} groups of nearly the same images are in more than one class",
                f"Check which class is right; {look}",
            )
        if within:
            self._find(
                FindingCode.NEAR_DUPLICATES,
                f"{len(within)} groups of nearly the same images are in one class and split",
                f"Leave out those that show nothing new; {look}",
            )

    def _list_files(self, kept: KeptImages, group: Sequence[int]) -> list[str]:
        return [self._layout.files[kept.positions[index]].path for index in group]

    def _list_some_files(self, kept: KeptImages, groups: Sequence[Sequence[int]]) -> list[list[str]]:
        """List the files of the first groups, and of each group the first ones."""
        return [self._list_files(kept, group[:_MAX_OF_A_GROUP]) for group in groups[:_MAX_LISTED]]

    def _find(self, code: FindingCode, message: str, advice: str) -> None:
        self._findings.append(Finding(code, message, advice))


def _tell_of_junk(num_files: int) -> list[str]:
    return [f"{num_files} hidden files and files of the operating system were ignored"] if num_files else []


def _spread(values: NDArray[np.uint32]) -> Spread:
    middle = (len(values) - 1) // 2
    return Spread(int(values.min()), int(np.partition(values, middle)[middle]), int(values.max()))
