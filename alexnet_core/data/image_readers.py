"""Reads the pixels of images from image files, or from arrays that contain many images. Torch-free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import IO, Literal, Protocol, Self, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from alexnet_core.data.decoder_process import DecoderProcess
from alexnet_core.data.headers import MAX_PIXELS
from alexnet_core.data.images import decode_image, decode_square
from alexnet_core.data.squares import ImageShape, StoredShape, cut_image, cut_middle, read_shape, to_image
from alexnet_core.data.structure import is_heif_or_avif
from alexnet_core.errors import ImageTooLarge

MAX_FILE_BYTES = 20 * 1024 * 1024

OpenFile = Callable[[str], AbstractContextManager[IO[bytes]]]


class ImageReader(Protocol):
    """Reads images by path. Several threads may do so at the same time."""

    def read_shape(self, path: str) -> ImageShape:
        """Return the shape of an image without decoding it.

        Raises:
            ImageError: it can't be used.
        """
        ...

    def read_square(self, path: str, stored: StoredShape) -> Image.Image:
        """Return the square of an image that a pack stores; see `cut_square`.

        Raises:
            ImageError: it can't be used.
        """
        ...

    def read_image(self, path: str) -> NDArray[np.uint8]:
        """Return the pixels of an image, (H, W, C), or at least the square in its middle, for a prediction.

        Raises:
            ImageError: it can't be used.
        """
        ...


class FileImages:
    """Images in files of their own. A context manager, because some are decoded in processes.

    Args:
        open_file: opens one by its path.
        max_pixels: of the largest image that is decoded.
        max_file_bytes: of the largest file that is read.
    """

    def __init__(
        self, open_file: OpenFile, *, max_pixels: int = MAX_PIXELS, max_file_bytes: int = MAX_FILE_BYTES
    ) -> None:
        self._open, self._max_pixels, self._max_file_bytes = open_file, max_pixels, max_file_bytes
        self._of_thread = threading.local()
        self._processes: list[DecoderProcess] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.close()

    def read_shape(self, path: str) -> ImageShape:
        """See `ImageReader`."""
        with self._open(path) as opened:
            bounded = cast(IO[bytes], BoundedFile(opened, self._max_file_bytes))
            return read_shape(bounded, max_pixels=self._max_pixels)

    def read_square(self, path: str, stored: StoredShape) -> Image.Image:
        """See `ImageReader`."""
        data = self._read(path)
        if is_heif_or_avif(data):
            return cut_image(to_image(self._get_process().decode(data)), stored)
        return decode_square(data, stored, max_pixels=self._max_pixels)

    def read_image(self, path: str) -> NDArray[np.uint8]:
        """See `ImageReader`."""
        data = self._read(path)
        if is_heif_or_avif(data):
            return self._get_process().decode(data)
        return decode_image(data, max_pixels=self._max_pixels)

    def _read(self, path: str) -> bytes:
        with self._open(path) as opened:
            return BoundedFile(opened, self._max_file_bytes).read()

    def _get_process(self) -> DecoderProcess:
        """Return the decoder process of this thread."""
        process: DecoderProcess | None = getattr(self._of_thread, "process", None)
        if process is None:
            process = self._of_thread.process = DecoderProcess(max_pixels=self._max_pixels)
            self._processes.append(process)
        return process


class ArrayImages:
    """Images in arrays.

    Args:
        rows: the pixels of each image, (H, W, C), by a path such as `train-images.idx#17`.
    """

    def __init__(self, rows: Mapping[str, NDArray[np.uint8]]) -> None:
        self._rows = rows

    def read_shape(self, path: str) -> ImageShape:
        """See `ImageReader`."""
        height, width, channels = self._rows[path].shape
        return ImageShape(width, height, cast(Literal[1, 3], channels), mode="L" if channels == 1 else "RGB")

    def read_square(self, path: str, stored: StoredShape) -> Image.Image:
        """See `ImageReader`."""
        return cut_image(to_image(cut_middle(self._rows[path])), stored)

    def read_image(self, path: str) -> NDArray[np.uint8]:
        """See `ImageReader`."""
        return self._rows[path]


class BoundedFile:
    """A file that can be read only up to a limit: some decoders read all of a file to know its header.

    Args:
        file: open, at its start.
        max_bytes: of the file; what lies behind raises ImageTooLarge.
    """

    def __init__(self, file: IO[bytes], max_bytes: int) -> None:
        self._file, self._max_bytes = file, max_bytes
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """See `IO.read`."""
        left = max(0, self._max_bytes + 1 - self._file.tell())
        data = self._file.read(left if size < 0 else min(size, left))
        if self._file.tell() > self._max_bytes:
            raise ImageTooLarge(f"The file has more than {self._max_bytes:,} bytes.")
        return data
