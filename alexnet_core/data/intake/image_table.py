"""Keeps what is known of each image of a dataset while its pack is made, in few bytes an image. Torch-free."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.data.content_keys import KEY_BYTES, content_key
from alexnet_core.data.intake.fingerprints import Fingerprints, take_fingerprints
from alexnet_core.data.moments import Moments, count_sums, sum_colours
from alexnet_core.data.squares import ImageShape, to_pixels


class ShapeTable:
    """The shapes of the files of a dataset, by position. A file that was rejected has none.

    Args:
        num_files: of the dataset.
    """

    def __init__(self, num_files: int) -> None:
        self._sizes_N2 = np.zeros((num_files, 2), dtype=np.uint32)
        self._kinds_N = np.zeros(num_files, dtype=np.uint16)
        self._kinds: list[ImageShape] = [ImageShape(0, 0, 1)]  # one of each kind; the first stands for none
        self._numbers: dict[ImageShape, int] = {}

    def set(self, position: int, shape: ImageShape) -> None:
        """Store the shape of a file."""
        kind = ImageShape(0, 0, shape.channels, shape.mode, shape.format)
        if kind not in self._numbers:
            self._numbers[kind] = len(self._kinds)
            self._kinds.append(kind)
        self._sizes_N2[position] = shape.width, shape.height
        self._kinds_N[position] = self._numbers[kind]

    def remove(self, position: int) -> None:
        """Forget a file that was rejected."""
        self._kinds_N[position] = 0

    def list_positions(self) -> Sequence[int]:
        """List the files that have a shape."""
        return array("q", np.flatnonzero(self._kinds_N).astype(np.int64).tobytes())

    def __iter__(self) -> Iterator[ImageShape]:
        """Give the shapes in the order of the files."""
        return map(self._get, self.list_positions())

    def list_largest(self) -> list[ImageShape]:
        """List one shape of each colour mode and format: of those the one with the longest shorter side."""
        shorter_N = self._sizes_N2.min(axis=1)
        places = (np.flatnonzero(self._kinds_N == number) for number in range(1, len(self._kinds)))
        return [self._get(int(those[shorter_N[those].argmax()])) for those in places if len(those)]

    def sizes(self) -> NDArray[np.uint32]:
        """Return width and height of each file that has a shape, (N, 2)."""
        return self._sizes_N2[self._kinds_N > 0]

    def count_kinds(self) -> tuple[dict[str, int], dict[str, int]]:
        """Count the files by colour mode and by format; the most frequent ones first."""
        modes: Counter[str] = Counter()
        formats: Counter[str] = Counter()
        numbers, counts = np.unique(self._kinds_N, return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            if number:
                modes[self._kinds[number].mode] += count
                formats[self._kinds[number].format] += count
        del formats[""]
        return dict(modes.most_common()), dict(formats.most_common())

    def _get(self, position: int) -> ImageShape:
        kind, (width, height) = self._kinds[self._kinds_N[position]], self._sizes_N2[position].tolist()
        return ImageShape(width, height, kind.channels, kind.mode, kind.format)


class Described(NamedTuple):
    """What is known of some images that were decoded."""

    pixels: NDArray[np.uint8]  #: that are stored, NHWC
    keys: bytes  #: of their content, one behind the other
    sums: NDArray[np.uint32]  #: of their colours, a row an image; see `moments.sum_colours`
    fingerprints: list[bytes]


class KeptImages:
    """The images that are in the draft of a pack, in order; a context manager.

    Args:
        spool_dir: the folder for the temporary file of the fingerprints.
        image_px: side of the images, at most 256.
        channels: of the images.
    """

    def __init__(self, spool_dir: Path, *, image_px: int, channels: int) -> None:
        self._num_pixels, self._channels = image_px**2, channels
        self._positions = array("q")
        self._sums = bytearray()
        self.keys = bytearray()  #: of their content, one behind the other
        self.fingerprints = Fingerprints(spool_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.fingerprints.close()

    @property
    def positions(self) -> Sequence[int]:
        """The position of each image's file among all files."""
        return self._positions

    def append(self, positions: Sequence[int], described: Described) -> None:
        """Store what is known of some more images.

        Args:
            positions: of their files.
            described: from `describe_images`.
        """
        self._positions.extend(positions)
        self._sums += described.sums.tobytes()
        self.keys += described.keys
        for fingerprint in described.fingerprints:
            self.fingerprints.append(fingerprint)

    def list_keys(self) -> list[bytes]:
        """List the keys of the images' content."""
        return [bytes(self.keys[start : start + KEY_BYTES]) for start in range(0, len(self.keys), KEY_BYTES)]

    def compute_moments(self, chosen_N: NDArray[np.bool_]) -> Moments:
        """Return the moments of the colours of some images.

        Args:
            chosen_N: which ones.
        """
        sums_NK = np.frombuffer(self._sums, dtype=np.uint32).reshape(-1, count_sums(self._channels))
        moments = Moments(self._channels)
        moments.add_sums(sums_NK[chosen_N].sum(axis=0, dtype=np.int64), int(chosen_N.sum()) * self._num_pixels)
        return moments


def describe_images(squares: Sequence[Image.Image], *, with_fingerprints: bool) -> Described:
    """Compute what `KeptImages` stores of some images.

    Args:
        squares: at least one, as they are stored; a side of at most 256, or the sums don't fit.
        with_fingerprints: whether near duplicates are looked for.
    """
    pixels_NHWC = np.stack([to_pixels(square) for square in squares])
    keys = b"".join(content_key(pixels_HWC) for pixels_HWC in pixels_NHWC)
    channels = pixels_NHWC.shape[3]
    sums = [sum_colours(pixels_HWC.reshape(-1, channels)) for pixels_HWC in pixels_NHWC]
    fingerprints = take_fingerprints(squares) if with_fingerprints else [b""] * len(squares)
    return Described(pixels_NHWC, keys, np.array(sums, dtype=np.uint32), fingerprints)
