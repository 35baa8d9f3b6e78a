"""Recognises the usual words for the three splits, in names of folders and files and in columns. Torch-free."""

from __future__ import annotations

from alexnet_core.data.pack import TEST, TRAIN, VALIDATION

_WORDS = {
    "train": TRAIN,
    "training": TRAIN,
    "val": VALIDATION,
    "valid": VALIDATION,
    "validation": VALIDATION,
    "dev": VALIDATION,
    "test": TEST,
    "testing": TEST,
}


def find_split(word: str) -> int | None:
    """Return the split that a word means, in upper or lower case. None: it means no split."""
    return _WORDS.get(word.strip().casefold())
