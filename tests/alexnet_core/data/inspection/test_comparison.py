"""What differs between two packs, by content."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet_core.data.inspection.comparison import Contents, PackDiff, compare
from alexnet_core.data.inspection.selection import describe
from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from tests.alexnet_core.data.intake.test_packing import write_classes, write_image


def contents(images: list[tuple[str, str, int]], class_names: tuple[str, ...] = ("cat", "dog")) -> Contents:
    """Images given as content, class and split."""
    return Contents(
        name="them",
        class_names=class_names,
        image_px=8,
        channels=1,
        keys=[content.encode().ljust(16, b"\0") for content, _, _ in images],
        labels=np.array([class_names.index(label) for _, label, _ in images], dtype=np.int64),
        split=np.array([split for _, _, split in images], dtype=np.uint8),
        files=[f"{label}/{content}.png" for content, label, _ in images],
    )


def counts(diff: PackDiff) -> tuple[int, int, int, int, int]:
    return diff.num_unchanged, diff.num_added, diff.num_removed, diff.num_relabelled, diff.num_moved


BEFORE = [("a", "cat", 0), ("b", "cat", 0), ("c", "dog", 0), ("d", "dog", 1)]


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        (BEFORE, (4, 0, 0, 0, 0)),
        (BEFORE[::-1], (4, 0, 0, 0, 0)),
        ([*BEFORE, ("e", "cat", 0)], (4, 1, 0, 0, 0)),
        (BEFORE[1:], (3, 0, 1, 0, 0)),
        ([("a", "dog", 0), *BEFORE[1:]], (3, 0, 0, 1, 0)),
        ([("a", "cat", 2), *BEFORE[1:]], (3, 0, 0, 0, 1)),
        ([("a", "dog", 2), *BEFORE[1:]], (3, 0, 0, 1, 0)),
        ([*BEFORE, ("a", "cat", 0)], (4, 1, 0, 0, 0)),
        ([*BEFORE, ("a", "dog", 0)], (4, 1, 0, 0, 0)),
        ([("x", "cat", 0), ("y", "dog", 0)], (0, 2, 4, 0, 0)),
        ([], (0, 0, 4, 0, 0)),
    ],
)
def test_images_are_paired_by_content(after: list[tuple[str, str, int]], expected: tuple[int, ...]) -> None:
    assert counts(compare(contents(BEFORE), contents(after))) == expected


def test_copies_are_counted_each() -> None:
    three = contents([("a", "cat", 0), ("a", "cat", 0), ("a", "dog", 0), ("b", "dog", 0)])
    two = contents([("a", "dog", 0), ("a", "dog", 0), ("b", "dog", 0)])
    assert counts(compare(three, two)) == (2, 0, 1, 1, 0)
    assert counts(compare(two, three)) == (2, 1, 0, 1, 0)


def test_what_changed_is_named() -> None:
    before, after = contents(BEFORE), contents([("a", "dog", 0), ("c", "dog", 2), ("d", "dog", 1), ("e", "cat", 2)])
    diff = compare(before, after)
    assert [(it.file, it.label, it.split, it.index, it.position) for it in diff.added] == [
        ("cat/e.png", "cat", "test", 1, 3)
    ]
    assert [(it.file, it.position) for it in diff.removed] == [("cat/b.png", 1)]
    assert [(it.before.label, it.after.label, it.after.file) for it in diff.relabelled] == [("cat", "dog", "dog/a.png")]
    assert [(it.before.split, it.after.split) for it in diff.moved] == [("train", "test")]
    assert diff.message == (
        "Compared with them: 1 images unchanged, 1 added, 1 removed, 1 relabelled, 1 moved to another split."
    )


def test_classes_are_the_same_by_name_whatever_their_number() -> None:
    before = contents(BEFORE)
    after = contents([*BEFORE, ("e", "ape", 0)], ("ape", "cat", "dog"))
    diff = compare(before, after)
    assert counts(diff) == (4, 1, 0, 0, 0)
    assert (diff.added_classes, diff.removed_classes) == (["ape"], [])
    assert compare(after, before).removed_classes == ["ape"]


def test_thousands_are_counted_and_the_first_thousand_listed() -> None:
    many = contents([(f"{number}", "cat", 0) for number in range(2500)])
    diff = compare(contents(BEFORE), many)
    assert (diff.num_added, len(diff.added)) == (2500, 1000)
    assert [place.position for place in diff.added[:3]] == [0, 1, 2]


@pytest.mark.parametrize("seed", range(20))
def test_the_counts_agree_with_counting_one_by_one(seed: int) -> None:
    random = np.random.default_rng(seed)

    def some() -> list[tuple[str, str, int]]:
        num = int(random.integers(0, 60))
        return [
            (f"{random.integers(12)}", ("cat", "dog")[random.integers(2)], int(random.integers(3))) for _ in range(num)
        ]

    before, after = some(), some()
    assert counts(compare(contents(before), contents(after))) == count_slowly(before, after)


def count_slowly(before: list[tuple[str, str, int]], after: list[tuple[str, str, int]]) -> tuple[int, ...]:
    left, right, found = Counter(before), Counter(after), []
    for num_fields in (3, 2, 1):
        both: Counter[tuple[object, ...]] = Counter()
        for one in (left, right):
            shorter: Counter[tuple[object, ...]] = Counter()
            for key, count in one.items():
                shorter[key[:num_fields]] += count
            both = shorter if one is left else both & shorter
        found.append(sum(both.values()))
        for one in (left, right):
            rest = Counter(both)
            for key in list(one):
                taken = min(one[key], rest[key[:num_fields]])
                one[key] -= taken
                rest[key[:num_fields]] -= taken
    return found[0], right.total(), left.total(), found[2], found[1]


def write_version(folder: Path, changed: bool) -> Path:
    write_classes(folder, {"train/cat": 6, "train/dog": 6, "val/cat": 2, "val/dog": 2, "test/cat": 1, "test/dog": 1})
    if changed:
        (folder / "train/cat/000.png").rename(folder / "train/dog/was-a-cat.png")
        (folder / "train/cat/001.png").unlink()
        write_image(folder / "train/dog/new.png", 4711)
    return folder


def test_two_packs_of_folders_are_compared_with_their_files(tmp_path: Path) -> None:
    first = pack_images(write_version(tmp_path / "v1", False), tmp_path / "p1", IntakeOptions(name="v1"))
    second = pack_images(write_version(tmp_path / "v2", True), tmp_path / "p2", IntakeOptions(name="v2"))
    diff = compare(Contents.of(first), Contents.of(second))
    assert counts(diff) == (16, 1, 1, 1, 0)
    assert [it.file for it in diff.added] == ["train/dog/new.png"]
    assert [it.file for it in diff.removed] == ["train/cat/001.png"]
    assert [(it.before.file, it.after.file) for it in diff.relabelled] == [
        ("train/cat/000.png", "train/dog/was-a-cat.png")
    ]
    assert diff.added == describe(second, [diff.added[0].position])


def test_images_of_another_shape_are_not_compared(tmp_path: Path) -> None:
    folder = write_version(tmp_path / "v1", False)
    first = pack_images(folder, tmp_path / "p1", IntakeOptions(name="v1"))
    second = pack_images(folder, tmp_path / "p2", IntakeOptions(name="v2", image_px=16))
    diff = compare(Contents.of(first), Contents.of(second))
    assert not diff.is_comparable
    assert "coloured squares of 12 px" in diff.message
    assert "Make it with images of 12 px" in diff.message
    assert counts(diff) == (0, 0, 0, 0, 0)


def test_a_key_that_ends_in_nul_is_not_another_one() -> None:
    def keyed(*keys: bytes) -> Contents:
        labels: NDArray[np.int64] = np.zeros(len(keys), dtype=np.int64)
        return Contents("them", ("a",), 8, 1, keys, labels, labels.astype(np.uint8), None)

    one, other = b"k" * 15 + b"\0", b"k" * 14 + b"\0\0"
    assert counts(compare(keyed(one), keyed(other))) == (0, 1, 1, 0, 0)
    assert counts(compare(keyed(one), keyed(one))) == (1, 0, 0, 0, 0)
