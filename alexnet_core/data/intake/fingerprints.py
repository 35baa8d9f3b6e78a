"""Takes the fingerprints of images, by which near duplicates are found, and keeps those of many. Torch-free.

A fingerprint is a perceptual hash (imagehash's `phash`, 64 bits) and a grey thumbnail of 16x16.
"""

from __future__ import annotations

import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.fft import dct

from alexnet_core.layout import TEMPORARY_PREFIX

HASH_BYTES, SIDE = 8, 16
_REDUCED_PX = 64  # both are made of a picture of about this size
_HASHED_PX, _HASH_SIDE = 32, 8  # of the hash: the picture it is made of, and its lowest frequencies
_MIN_DEVIATION = 2  # of a thumbnail: flatter pictures have no hash that means anything


def take_fingerprints(images: Sequence[Image.Image]) -> list[bytes]:
    """Return of each image its perceptual hash and its thumbnail; nothing for an image of nearly one colour.

    The hashes are those of imagehash's `phash`. Many at once take a third of the time.
    """
    reduced = [_reduce(image) for image in images]
    thumbnails_NHW = np.stack([_resize(image, SIDE, Image.Resampling.BILINEAR) for image in reduced])
    pictures_NHW = np.stack([_resize(image, _HASHED_PX, Image.Resampling.LANCZOS) for image in reduced])
    is_flat_N = thumbnails_NHW.std(axis=(1, 2)) < _MIN_DEVIATION
    hashed = zip(is_flat_N.tolist(), _hash(pictures_NHW), thumbnails_NHW, strict=True)
    return [b"" if is_flat else bits.tobytes() + thumbnail.tobytes() for is_flat, bits, thumbnail in hashed]


def _reduce(image: Image.Image) -> Image.Image:
    return image.reduce(max(1, min(image.size) // _REDUCED_PX)).convert("L")


def _resize(image: Image.Image, side: int, method: Image.Resampling) -> NDArray[np.uint8]:
    return np.asarray(image.resize((side, side), method))


def _hash(pictures_NHW: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return which of each picture's lowest frequencies are stronger than their median, 8 bytes a row."""
    frequencies_NHW = dct(dct(pictures_NHW.astype(np.float64), axis=1)[:, :_HASH_SIDE], axis=2)[:, :, :_HASH_SIDE]
    frequencies_NF = frequencies_NHW.reshape(len(pictures_NHW), -1)
    return np.packbits(frequencies_NF > np.median(frequencies_NF, axis=1, keepdims=True), axis=1)


class Fingerprints:
    """The fingerprints of many images: hashes in memory, thumbnails in a temporary file without a name.

    Args:
        spool_dir: the folder for that file.
    """

    def __init__(self, spool_dir: Path) -> None:
        self._file = tempfile.TemporaryFile(dir=spool_dir, prefix=TEMPORARY_PREFIX)  # noqa: SIM115  # see close
        self._hashes, self._rows = array("Q"), array("i")
        self._num_rows = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._rows)

    def append(self, fingerprint: bytes) -> None:
        """Keep one more; b"" stands for an image that has none.

        Raises:
            OSError: as from any file that is written.
        """
        if fingerprint:
            self._hashes.frombytes(fingerprint[:HASH_BYTES])
            self._file.write(fingerprint[HASH_BYTES:])
            self._num_rows += 1
        self._rows.append(self._num_rows - 1 if fingerprint else -1)

    @property
    def hashes(self) -> NDArray[np.uint64]:
        """The hash of each row; a row is an image that has a fingerprint."""
        return np.frombuffer(self._hashes, dtype=np.uint64)

    @property
    def rows(self) -> NDArray[np.int32]:
        """The row of each image. -1: it has no fingerprint."""
        return np.frombuffer(self._rows, dtype=np.int32)

    def map_thumbnails(self) -> NDArray[np.uint8]:
        """Map the thumbnails, (rows, 256). Those that are looked at are in memory."""
        self._file.flush()
        if not self._num_rows:
            return np.empty((0, SIDE * SIDE), np.uint8)
        return np.memmap(self._file, dtype=np.uint8, mode="r", shape=(self._num_rows, SIDE * SIDE))

    def close(self) -> None:
        """Remove the file."""
        self._file.close()
