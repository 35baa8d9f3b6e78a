"""Fingerprints are kept in a file without a name, and found again by image."""

from __future__ import annotations

from pathlib import Path

import imagehash
import numpy as np

from alexnet_core.data.intake.fingerprints import HASH_BYTES, SIDE, Fingerprints, take_fingerprints
from alexnet_core.data.squares import to_image


def test_each_image_has_its_fingerprint_or_none(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3)).astype(np.uint8)
    first, second, grey = take_fingerprints([to_image(it) for it in (noise[0], noise[1], noise[2, ..., :1])])
    taken = [first, b"", second, grey]
    assert [len(fingerprint) for fingerprint in taken] == [HASH_BYTES + SIDE * SIDE, 0, 264, 264]
    kept = Fingerprints(tmp_path)
    for fingerprint in taken:
        kept.append(fingerprint)
    assert list(tmp_path.iterdir()) == [], "the file has no name"
    assert (len(kept), kept.rows.tolist()) == (4, [0, -1, 1, 2])
    thumbnails = kept.map_thumbnails()
    for fingerprint, row in zip(taken, kept.rows.tolist(), strict=True):
        if fingerprint:
            assert kept.hashes[row].tobytes() + thumbnails[row].tobytes() == fingerprint
    kept.close()


def test_none_at_all_are_no_error(tmp_path: Path) -> None:
    kept = Fingerprints(tmp_path)
    assert (len(kept), len(kept.hashes), kept.map_thumbnails().shape) == (0, 0, (0, 256))
    kept.close()


def test_hashes_are_those_of_imagehash() -> None:
    """Also where many frequencies are 0 but for rounding: of stripes, halves and a single bright pixel."""
    noise = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3)).astype(np.uint8)
    stripes, halves, dot = (np.zeros((64, 64, 1), np.uint8) for _ in range(3))
    stripes[::8], halves[:32], dot[40, 7] = 255, 200, 255
    images = [to_image(it) for it in (*noise, *noise[:3, :40, :40], stripes, halves, np.repeat(halves, 3, axis=2), dot)]
    taken = [fingerprint[:HASH_BYTES] for fingerprint in take_fingerprints(images)]
    expected = [np.packbits(imagehash.phash(image.convert("L")).hash).tobytes() for image in images]
    assert [found for found in taken if found] == [
        wanted for found, wanted in zip(taken, expected, strict=True) if found
    ]
    assert sum(map(bool, taken)) >= len(images) - 1, "the dot may be too small"
    assert taken == [fingerprint[:HASH_BYTES] for image in images for fingerprint in take_fingerprints([image])]
