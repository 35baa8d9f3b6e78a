"""Chooses which images to hold back from training. Torch-free."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

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
    keys = [content_key(images_NHWC[index]) for index in range(len(labels_N))]
    return hold_back(labels_N, keys, fraction=fraction, seed=seed)


def content_key(image_HWC: NDArray[np.uint8]) -> bytes:
    """Return 16 bytes that are equal for images with the same bytes, and different for others."""
    return hashlib.blake2b(np.ascontiguousarray(image_HWC).data, digest_size=16).digest()


def hold_back(
    labels_N: NDArray[np.integer[Any]],
    keys_N: Sequence[bytes],
    *,
    fraction: float = TENTH,
    at_least: int = 0,
    seed: int = 0,
) -> NDArray[np.bool_]:
    """Choose the images to hold back: a fixed share of each class, always the same for the same keys and seed.

    Args:
        labels_N: from 0.
        keys_N: the images' `content_key`; images of one key stay on one side.
        fraction: of each class, rounded.
        at_least: images of each class, where it has more than that.
        seed: another one gives another choice.

    Returns:
        (N,) True for what is held back. Every class keeps at least one image.
    """
    groups: dict[bytes, list[int]] = {}
    for index, key in enumerate(keys_N):
        groups.setdefault(key, []).append(index)
    salt = str(seed).encode()
    order = sorted(groups, key=lambda key: hashlib.blake2b(key + salt, digest_size=16).digest())
    counts = np.bincount(labels_N, minlength=1)
    most = np.minimum(np.maximum(np.round(counts * fraction), at_least), np.maximum(counts - 1, 0))
    wanted, labels = most.astype(int).tolist(), labels_N.tolist()
    chosen = np.zeros(len(labels_N), dtype=np.bool_)
    for key in order:
        taken = Counter(labels[member] for member in groups[key])
        if all(count <= wanted[label] for label, count in taken.items()):
            for label, count in taken.items():
                wanted[label] -= count
            chosen[groups[key]] = True
    return chosen
