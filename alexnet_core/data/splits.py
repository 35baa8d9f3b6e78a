"""Chooses which images to hold back from training. Torch-free."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.content_keys import KEY_BYTES, Copies, content_key, sort_keys

TENTH = 0.1


def split_validation(
    labels_N: NDArray[np.integer[Any]],
    images_NHWC: NDArray[np.uint8],
    *,
    fraction: float = TENTH,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Choose the validation images: a fixed share of each class, always the same for the same images and seed.

    Identical images (equal bytes, whatever their labels) are never on both sides.

    Returns:
        (N,) True for validation. Every class keeps at least one image to train on.
    """
    keys = b"".join(content_key(images_NHWC[index]) for index in range(len(labels_N)))
    return hold_back(labels_N, keys, fraction=fraction, seed=seed)


def count_held(counts_K: NDArray[np.int64], *, fraction: float, at_least: int) -> NDArray[np.int64]:
    """Return how many images of each class `hold_back` wants. It takes fewer where copies stay together."""
    most_K = np.minimum(np.maximum(np.round(counts_K * fraction), at_least), np.maximum(counts_K - 1, 0))
    return most_K.astype(np.int64)


def hold_back(
    labels_N: NDArray[np.integer[Any]],
    keys: bytes | bytearray,
    *,
    fraction: float = TENTH,
    at_least: int = 0,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Choose the images to hold back: a fixed share of each class, always the same for the same keys and seed.

    Args:
        labels_N: from 0.
        keys: the images' `content_key`, one behind the other; images of one key stay on one side.
        fraction: of each class, rounded.
        at_least: images of each class, where it has more than that.
        seed: another one gives another choice.

    Returns:
        (N,) True for what is held back. Every class keeps at least one image.
    """
    copies = Copies(keys)
    salt = str(seed).encode()
    digests = bytearray()
    for first in copies.first:
        key = bytes(keys[KEY_BYTES * first : KEY_BYTES * (first + 1)])
        digests += hashlib.blake2b(key + salt, digest_size=KEY_BYTES).digest()
    wanted: list[int] = count_held(np.bincount(labels_N, minlength=1), fraction=fraction, at_least=at_least).tolist()
    chosen = np.zeros(len(labels_N), dtype=np.bool_)
    for group in sort_keys(digests):
        members = copies.members(group)
        taken = Counter(labels_N[members].tolist())
        if all(count <= wanted[label] for label, count in taken.items()):
            for label, count in taken.items():
                wanted[label] -= count
            chosen[members] = True
    return chosen
