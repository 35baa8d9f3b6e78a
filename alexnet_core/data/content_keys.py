"""Tells which of many images have the same content, in little memory. Torch-free."""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

KEY_BYTES = 16


def content_key(image_HWC: NDArray[np.uint8]) -> bytes:
    """Return 16 bytes that are equal for images with the same bytes, and different for others."""
    return hashlib.blake2b(np.ascontiguousarray(image_HWC).data, digest_size=KEY_BYTES).digest()


def choose_keys(keys: bytes | bytearray, positions: NDArray[np.int64]) -> bytes:
    """Return some of many keys, one behind the other."""
    return np.frombuffer(keys, np.uint8).reshape(-1, KEY_BYTES)[positions].tobytes()


def sort_keys(keys: bytes | bytearray) -> NDArray[np.int64]:
    """Return the order in which keys of 16 bytes, one behind the other, are sorted. Equal ones keep their order."""
    words_N2 = np.frombuffer(keys, dtype=">u8").reshape(-1, 2)
    return np.lexsort((words_N2[:, 1], words_N2[:, 0])).astype(np.int64)


class Copies:
    """Groups images by their content; a group is known by the position of its first image.

    Args:
        keys: the images' keys of 16 bytes, one behind the other.
    """

    def __init__(self, keys: bytes | bytearray) -> None:
        order = sort_keys(keys)
        sorted_N2 = np.frombuffer(keys, dtype="<u8").reshape(-1, 2)[order]
        begins_N = np.ones(len(order), dtype=np.bool_)
        begins_N[1:] = (sorted_N2[1:] != sorted_N2[:-1]).any(axis=1)
        starts = np.flatnonzero(begins_N)
        by_first = np.argsort(order[starts])
        self._order, ends = order, np.append(starts[1:], len(order))
        self.first: NDArray[np.int64] = order[starts][by_first]  #: of each group, ascending
        self._starts, self._ends = starts[by_first], ends[by_first]

    def members(self, group: int) -> list[int]:
        """Return the positions of the images of a group, ascending.

        Args:
            group: a place in `first`.
        """
        positions: list[int] = self._order[self._starts[group] : self._ends[group]].tolist()
        return positions

    def list_repeated(self) -> list[int]:
        """List the groups that have several images."""
        groups: list[int] = np.flatnonzero(self._ends - self._starts > 1).tolist()
        return groups
