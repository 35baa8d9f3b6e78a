"""Images that show nearly the same picture are found, in little time and memory."""

from __future__ import annotations

import io
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageEnhance
from sklearn.datasets import load_sample_images

from alexnet_core.data.intake import near_duplicates
from alexnet_core.data.intake.findings import FindingCode
from alexnet_core.data.intake.fingerprints import Fingerprints, take_fingerprints
from alexnet_core.data.intake.near_duplicates import NearDuplicates, find_near_duplicates
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.published.builtin import prepare
from alexnet_core.data.squares import to_image
from tests.alexnet_core.data.intake.test_packing import OPTIONS, report_of, write_classes


def find(fingerprints: Sequence[bytes]) -> NearDuplicates:
    """As intake does, for different images."""
    with TemporaryDirectory() as folder:
        kept = Fingerprints(Path(folder))
        for fingerprint in fingerprints:
            kept.append(fingerprint)
        found = find_near_duplicates(kept, np.arange(len(fingerprints)))
        kept.close()
    return found


def photographs(count: int) -> list[Image.Image]:
    """Parts of two photographs, 64x64; none is like another one."""
    generator = np.random.default_rng(0)
    parts = []
    for number in range(count):
        whole = load_sample_images().images[number % 2]
        side = generator.integers(120, 300)
        top, left = (generator.integers(0, size - side) for size in whole.shape[:2])
        parts.append(Image.fromarray(whole[top : top + side, left : left + side]).resize((64, 64)))
    return parts


def compressed(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "compressed again": compressed,
    "resized": lambda image: image.resize((40, 40)).resize((64, 64)),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "with more contrast": lambda image: ImageEnhance.Contrast(image).enhance(1.15),
    "grey": lambda image: image.convert("L"),
}


def fingerprint(image: Image.Image) -> bytes:
    return take_fingerprints([image])[0]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_photograph_is_found_beside_the_original(change: str) -> None:
    images = photographs(60)
    both = [fingerprint(image) for image in images] + [fingerprint(CHANGES[change](image)) for image in images]
    found = find(both)
    assert found.is_complete
    pairs = {pair for group in found.groups for pair in combinations(group, 2)}
    assert sum((number, number + 60) in pairs for number in range(60)) >= 57
    assert len(find(both[:60]).groups) == 0, "different photographs are not near"


def test_few_pictures_of_digits_are_taken_for_another_one(tmp_path: Path) -> None:
    """They are 8x8: the hash alone calls 462 of 1.6 million pairs near."""
    pack = prepare("digits", source_dir=None, target_dir=tmp_path / "digits")
    found = find(take_fingerprints([to_image(image) for image in pack.images]))
    assert found.is_complete
    assert sum(len(group) - 1 for group in found.groups) <= 3


def test_pictures_of_one_colour_are_near_to_none() -> None:
    flat = take_fingerprints([Image.new("RGB", (20, 20), (value,) * 3) for value in range(50)])
    assert set(flat) == {b""}
    assert find(flat).groups == []
    assert find([]).groups == []


def random_fingerprints(hashes: NDArray[np.uint64], seed: int = 0) -> list[bytes]:
    thumbnail = np.random.default_rng(seed).integers(0, 256, 256).astype(np.uint8).tobytes()
    return [value.tobytes() + thumbnail for value in hashes]


def test_every_pair_of_hashes_within_six_bits_is_found_and_no_other() -> None:
    """Against a comparison of all pairs; the thumbnails are the same."""
    generator = np.random.default_rng(0)
    centres = generator.integers(0, 2**64, 40, dtype=np.uint64)
    hashes = np.repeat(centres, 10)
    for number in range(len(hashes)):
        for bit in generator.choice(64, generator.integers(0, 8), replace=False):
            hashes[number] ^= np.uint64(1 << int(bit))
    above = list(range(len(hashes)))
    for one, other in combinations(range(len(hashes)), 2):
        if (int(hashes[one]) ^ int(hashes[other])).bit_count() <= 6:
            low, high = sorted((above[one], above[other]))
            above = [low if it == high else it for it in above]
    expected = [[i for i, it in enumerate(above) if it == top] for top in sorted(set(above))]
    found = find(random_fingerprints(hashes))
    assert sorted(found.groups) == [group for group in expected if len(group) > 1]


def test_many_images_take_little_memory_and_an_end_is_put_to_very_many_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    few_bits = generator.integers(0, 2**14, 20_000, dtype=np.uint64)  # nearly all pairs are near
    fingerprints = [value.tobytes() + generator.integers(0, 256, 256).astype(np.uint8).tobytes() for value in few_bits]
    monkeypatch.setattr(near_duplicates, "MAX_CANDIDATES", 200_000)
    tracemalloc.start()
    found = find(fingerprints)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert not found.is_complete
    assert peak < 250_000_000, "20,000 x 20,000 comparisons would take 3 GB"
    monkeypatch.setattr(near_duplicates, "MAX_CANDIDATES", 10**9)
    monkeypatch.setattr(near_duplicates, "MAX_COMPARISONS", 1_000)
    assert not find(fingerprints[:1000]).is_complete
    monkeypatch.setattr(near_duplicates, "MAX_IMAGES", 999)
    assert find(fingerprints[:1000]).groups == []


def test_near_duplicates_are_reported_by_split_and_class(tmp_path: Path) -> None:
    folder = write_classes(tmp_path / "mine", {"train/a": 25, "train/b": 25, "val/a": 3, "test/b": 3}, (64, 64, 3))
    one, two, three = photographs(3)
    for path, image in {
        "train/a/one.png": one,
        "test/a/one.jpg": compressed(one),
        "train/a/two.png": two,
        "train/b/two.png": CHANGES["brighter"](two),
        "train/a/three.png": three,
        "train/a/three-again.png": three,
        "train/a/three-small.png": three.resize((50, 50)),
    }.items():
        (folder / path).parent.mkdir(exist_ok=True)
        image.save(folder / path)
    report = report_of(pack_images(folder, tmp_path / "pack", OPTIONS))
    found = report["near_duplicates"]
    assert found["across_splits"] == [["train/a/one.png", "test/a/one.jpg"]]
    assert found["across_classes"] == [["train/a/two.png", "train/b/two.png"]]
    assert list(map(sorted, found["within"])) == [
        ["train/a/three-again.png", "train/a/three-small.png", "train/a/three.png"]
    ]
    assert (found["is_complete"], found["num_groups"], report["duplicates"]["num_copies"]) == (True, 3, 1)
    codes = {finding["code"] for finding in report["findings"]}
    assert {
        FindingCode.NEAR_DUPLICATES,
        FindingCode.NEAR_DUPLICATES_ACROSS_SPLITS,
        FindingCode.NEAR_DUPLICATES_ACROSS_CLASSES,
    } <= codes
