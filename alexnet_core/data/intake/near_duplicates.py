"""Finds images that show nearly the same picture: compressed again, resized, brighter, in grey. Torch-free.

Two images are near duplicates if their perceptual hashes (imagehash's `phash`, 64 bits) differ in at most 6 bits, and
their thumbnails of 16x16 correlate by more than 0.99. The hash alone takes simple pictures such as digits for the same:
of 4,000 pictures of Fashion-MNIST it calls 2,719 pairs near, and 21 with the second condition.

Not every pair is compared. Hashes that differ in 6 bits are equal in at least one of 7 parts of the bits, so only those
are compared that share a part. The memory is bounded, and so is the number of comparisons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

MAX_IMAGES = 200_000  #: of more, none is compared; a fingerprint has 264 bytes
MAX_BITS = 6
MIN_CORRELATION = 0.99
MAX_COMPARISONS = 4_000_000_000  #: of hashes
MAX_CANDIDATES = 20_000_000  #: pairs of near hashes, whose thumbnails are compared
_NUM_PARTS = MAX_BITS + 1
_HASH_BYTES, _SIDE = 8, 16
_REDUCED_PX = 64
_MIN_DEVIATION = 2  # of a thumbnail: flatter pictures have no hash that means anything
_MAX_PICTURES_OF_A_HASH = 8  # that are told apart
_BLOCK = 2048  # hashes on each side that are compared at once
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class NearDuplicates:
    """Groups of images, by their positions, and whether all images were compared."""

    groups: list[list[int]]
    is_complete: bool


def take_fingerprint(pixels_HWC: NDArray[np.uint8]) -> bytes:
    """Return the perceptual hash of an image and its thumbnail; nothing for an image of nearly one colour."""
    image = Image.fromarray(pixels_HWC[..., 0] if pixels_HWC.shape[2] == 1 else pixels_HWC)
    image = image.reduce(max(1, min(image.size) // _REDUCED_PX)).convert("L")  # the hash looks at 32x32
    thumbnail = np.asarray(image.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR))
    if thumbnail.std() < _MIN_DEVIATION:
        return b""
    return np.packbits(imagehash.phash(image).hash).tobytes() + thumbnail.tobytes()


def find_near_duplicates(fingerprints: Sequence[bytes]) -> NearDuplicates:
    """Find the groups of near duplicates. A group also has images that are near to only one other of the group.

    Args:
        fingerprints: of different images; those without any are in no group.
    """
    if len(fingerprints) > MAX_IMAGES:
        return NearDuplicates([], is_complete=False)
    places = [place for place, fingerprint in enumerate(fingerprints) if fingerprint]
    if not places:
        return NearDuplicates([], is_complete=True)
    table = np.frombuffer(b"".join(fingerprints[place] for place in places), np.uint8).reshape(len(places), -1)
    hashes_N, thumbnails_ND = np.ascontiguousarray(table[:, :_HASH_BYTES]).view(np.uint64)[:, 0], table[:, _HASH_BYTES:]
    groups = _Groups(len(places))
    pictures = _choose_pictures(hashes_N, thumbnails_ND, groups)
    hashes, candidates = _Budget(MAX_COMPARISONS), _Budget(MAX_CANDIDATES)
    for pairs_P2 in _find_near_hashes(hashes_N[pictures], hashes):
        if not candidates.spend(len(pairs_P2)):
            break
        for start in range(0, len(pairs_P2), _PAIRS_AT_ONCE):
            one_P, other_P = pictures[pairs_P2[start : start + _PAIRS_AT_ONCE]].T
            near_P = _correlate(thumbnails_ND[one_P], thumbnails_ND[other_P]) > MIN_CORRELATION
            for one, other in zip(one_P[near_P].tolist(), other_P[near_P].tolist(), strict=True):
                groups.join(one, other)
    is_complete = not hashes.is_spent and not candidates.is_spent
    return NearDuplicates([[places[it] for it in group] for group in groups.list_all()], is_complete)


def _choose_pictures(
    hashes_N: NDArray[np.uint64], thumbnails_ND: NDArray[np.uint8], groups: _Groups
) -> NDArray[np.intp]:
    """Choose the images to compare: a few that look different for each hash. Others join one of these."""
    chosen: dict[int, list[int]] = defaultdict(list)
    for place, key in enumerate(hashes_N.tolist()):
        known = chosen[key]
        if known:
            near = np.flatnonzero(_correlate(thumbnails_ND[known], thumbnails_ND[[place]]) > MIN_CORRELATION)
            if len(near):
                groups.join(known[near[0]], place)
                continue
        if len(known) < _MAX_PICTURES_OF_A_HASH:
            known.append(place)
    return np.array([place for known in chosen.values() for place in known], dtype=np.intp)


def _find_near_hashes(hashes_N: NDArray[np.uint64], budget: _Budget) -> Iterator[NDArray[np.intp]]:
    """Yield the pairs of hashes that differ in a few bits, (P, 2), each pair once."""
    masks = [np.uint64(sum(1 << bit for bit in range(part, 64, _NUM_PARTS))) for part in range(_NUM_PARTS)]
    for part, mask in enumerate(masks):
        keys = hashes_N & mask
        order = np.argsort(keys, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
            for pairs_P2 in _compare(hashes_N, bucket, budget) if len(bucket) > 1 else ():
                different_P = hashes_N[pairs_P2[:, 0]] ^ hashes_N[pairs_P2[:, 1]]
                is_new_P = np.ones(len(pairs_P2), dtype=np.bool_)
                for earlier in masks[:part]:  # they were found in an earlier part
                    is_new_P &= (different_P & earlier) != 0
                yield pairs_P2[is_new_P]


def _compare(hashes_N: NDArray[np.uint64], bucket: NDArray[np.intp], budget: _Budget) -> Iterator[NDArray[np.intp]]:
    """Yield the near pairs within a bucket, some rows and columns at a time."""
    for top in range(0, len(bucket), _BLOCK):
        rows = bucket[top : top + _BLOCK]
        for left in range(top, len(bucket), _BLOCK):
            columns = bucket[left : left + _BLOCK]
            if not budget.spend(len(rows) * len(columns)):
                return
            near = np.bitwise_count(hashes_N[rows][:, None] ^ hashes_N[columns][None]) <= MAX_BITS
            row, column = np.nonzero(np.triu(near, k=1) if left == top else near)
            if len(row):
                yield np.stack([rows[row], columns[column]], axis=1)


def _correlate(one_ND: NDArray[np.uint8], other_ND: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the correlation of each row with the same row, or the only one, of another table."""
    one, other = (table - table.mean(axis=1, keepdims=True, dtype=np.float32) for table in (one_ND, other_ND))
    found: NDArray[np.float32] = (one * other).sum(axis=1)
    found /= np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return found


class _Budget:
    """Counts work, up to a limit."""

    def __init__(self, most: int) -> None:
        self._left = most
        self.is_spent = False

    def spend(self, amount: int) -> bool:
        """Spend some of the budget; returns whether there was enough left."""
        self._left -= amount
        self.is_spent = self._left < 0
        return not self.is_spent


class _Groups:
    """Groups of connected items (union by the lower item, with path halving)."""

    def __init__(self, num_items: int) -> None:
        self._above = list(range(num_items))

    def join(self, one: int, other: int) -> None:
        """Put the groups of two items together."""
        one, other = self._find(one), self._find(other)
        self._above[max(one, other)] = min(one, other)

    def list_all(self) -> list[list[int]]:
        """List the groups of two and more, in order."""
        members: dict[int, list[int]] = defaultdict(list)
        for item in range(len(self._above)):
            members[self._find(item)].append(item)
        return [group for group in members.values() if len(group) > 1]

    def _find(self, item: int) -> int:
        while self._above[item] != item:
            self._above[item] = self._above[self._above[item]]
            item = self._above[item]
        return item
