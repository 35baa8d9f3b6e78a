"""Finds images that show nearly the same picture: compressed again, resized, brighter, in grey. Torch-free.

Two images are near duplicates if their perceptual hashes (imagehash's `phash`, 64 bits) differ in at most 6 bits, and
their thumbnails of 16x16 correlate by more than 0.99. The hash alone takes simple pictures such as digits for the same:
of 4,000 pictures of Fashion-MNIST it calls 2,719 pairs near, and 21 with the second condition.

Not every pair is compared. Hashes that differ in 6 bits are equal in at least one of 7 parts of the bits, so only those
are compared that share a part. The memory is bounded, and so is the number of comparisons.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.intake.fingerprints import Fingerprints

MAX_IMAGES = 200_000  #: of more, none is compared
MAX_BITS = 6
MIN_CORRELATION = 0.99
MAX_COMPARISONS = 4_000_000_000  #: of hashes
MAX_CANDIDATES = 20_000_000  #: pairs of near hashes, whose thumbnails are compared
_NUM_PARTS = MAX_BITS + 1
_MAX_PICTURES_OF_A_HASH = 8  # that are told apart
_BLOCK = 2048  # hashes on each side that are compared at once
_PAIRS_AT_ONCE = 8192


@dataclass(frozen=True)
class NearDuplicates:
    """Groups of images, by their positions, and whether all images were compared."""

    groups: list[list[int]]
    is_complete: bool


def find_near_duplicates(fingerprints: Fingerprints, images: NDArray[np.int64]) -> NearDuplicates:
    """Find the groups of near duplicates. A group also has images that are near to only one other of the group.

    Args:
        fingerprints: of images; those without any are in no group.
        images: those to compare, which are all different.
    """
    if len(images) > MAX_IMAGES:
        return NearDuplicates([], is_complete=False)
    places = np.flatnonzero(fingerprints.rows[images] >= 0)
    rows = fingerprints.rows[images][places]
    hashes_N, thumbnails = fingerprints.hashes[rows], _Thumbnails(fingerprints.map_thumbnails(), rows)
    groups = _Groups()
    pictures = _choose_pictures(hashes_N, thumbnails, groups)
    hashes, candidates = _Budget(MAX_COMPARISONS), _Budget(MAX_CANDIDATES)
    for pairs_P2 in _find_near_hashes(hashes_N[pictures], hashes):
        if not candidates.spend(len(pairs_P2)):
            break
        for start in range(0, len(pairs_P2), _PAIRS_AT_ONCE):
            one_P, other_P = pictures[pairs_P2[start : start + _PAIRS_AT_ONCE]].T
            near_P = _correlate(thumbnails[one_P], thumbnails[other_P]) > MIN_CORRELATION
            for one, other in zip(one_P[near_P].tolist(), other_P[near_P].tolist(), strict=True):
                groups.join(one, other)
    is_complete = not hashes.is_spent and not candidates.is_spent
    return NearDuplicates([places[group].tolist() for group in groups.list_all()], is_complete)


def _choose_pictures(hashes_N: NDArray[np.uint64], thumbnails: _Thumbnails, groups: _Groups) -> NDArray[np.intp]:
    """Choose the images to compare: a few that look different for each hash. Others join one of these."""
    is_chosen = np.ones(len(hashes_N), dtype=np.bool_)
    for bucket in _list_buckets(hashes_N):
        known: list[int] = []
        for place in bucket.tolist():
            near = np.flatnonzero(_correlate(thumbnails[known], thumbnails[[place]]) > MIN_CORRELATION)
            if len(near):
                groups.join(known[near[0]], place)
            elif len(known) < _MAX_PICTURES_OF_A_HASH:
                known.append(place)
        is_chosen[bucket] = False
        is_chosen[known] = True
    return np.flatnonzero(is_chosen)


def _list_buckets(keys_N: NDArray[np.uint64]) -> Iterator[NDArray[np.intp]]:
    """Yield the places of each key that is there several times."""
    order = np.argsort(keys_N, kind="stable")
    sorted_N = keys_N[order]
    starts = np.flatnonzero(np.append(True, sorted_N[1:] != sorted_N[:-1]))
    ends = np.append(starts[1:], len(order))
    for at in np.flatnonzero(ends - starts > 1):
        yield order[starts[at] : ends[at]]


def _find_near_hashes(hashes_N: NDArray[np.uint64], budget: _Budget) -> Iterator[NDArray[np.intp]]:
    """Yield the pairs of hashes that differ in a few bits, (P, 2), each pair once."""
    masks = [np.uint64(sum(1 << bit for bit in range(part, 64, _NUM_PARTS))) for part in range(_NUM_PARTS)]
    for part, mask in enumerate(masks):
        for bucket in _list_buckets(hashes_N & mask):
            for pairs_P2 in _compare(hashes_N, bucket, budget):
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


class _Thumbnails:
    """The thumbnails of the images that are compared, by their places among those."""

    def __init__(self, mapped_RD: NDArray[np.uint8], rows: NDArray[np.int32]) -> None:
        self._mapped_RD, self._rows = mapped_RD, rows

    def __getitem__(self, places: NDArray[np.intp] | list[int]) -> NDArray[np.uint8]:
        """Return some of them, (places, 256)."""
        return np.asarray(self._mapped_RD[self._rows[places]])


class _Groups:
    """Groups of connected items (union by the lower item, with path halving). Others take no memory."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def join(self, one: int, other: int) -> None:
        """Put the groups of two items together."""
        one, other = self._find(one), self._find(other)
        self._above[max(one, other)] = min(one, other)

    def list_all(self) -> list[list[int]]:
        """List the groups of two and more, in order."""
        members: dict[int, list[int]] = defaultdict(list)
        for item in sorted(self._above):
            members[self._find(item)].append(item)
        return [members[first] for first in sorted(members)]

    def _find(self, item: int) -> int:
        above = self._above
        above.setdefault(item, item)
        while above[item] != item:
            above[item] = above[above[item]]
            item = above[item]
        return item
