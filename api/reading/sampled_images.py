"""Some test images of a stored dataset, spread evenly over all, wherever the store keeps its pack.

A pack on this machine is opened. Of one in an object store only these images are read, by a thread of their own: who
asks for them goes on with other work while they come. They are not compared with the pack's digest, for which all of
it would have to be read.
"""

from __future__ import annotations

import contextlib
import io
import queue
import threading
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.pack import SPLITS, open_pack
from alexnet_core.layout import IMAGES, SPLIT
from trainyard.storage.interface import Storage
from trainyard.storage.local import LocalStorage

MAX_IMAGES = 1000
MAX_FETCHED_IMAGES = 500  #: of an object store, with a request for each
STEP_IMAGES = 16
_AHEAD = 2  # steps that are fetched before they are asked for
_LOOK_S = 0.2  # between two looks whether images have come, or are no longer wanted
_HEADER_BYTES = 4096  # in which an array file says what it holds

Images = list[NDArray[np.uint8]]


@contextlib.contextmanager
def sampling(storage: Storage, key: str) -> Iterator[Iterator[Images | None]]:
    """Open a sample of a pack's test images; nobody removes a pack on this machine while the block runs.

    Yields:
        Some images at a time; None: the next ones have not come yet. It raises what opening raises.

    Raises:
        FileNotFoundError: the store has no such pack.
        StorageUnavailable, OSError, ValueError: it can't be read.
    """
    if isinstance(storage, LocalStorage):
        with storage.materialise(key) as folder:
            pack = open_pack(folder)
            steps = _steps(choose(pack.split, MAX_IMAGES))
            yield ([np.array(pack.images[index]) for index in step] for step in steps)
        return
    fetcher = _Fetcher(storage, key)
    try:
        yield fetcher.iterate()
    finally:
        fetcher.end()


def choose(split: NDArray[np.uint8], max_images: int) -> NDArray[np.int64]:
    """Return the positions of test images, or of validation images if there are none: spread evenly over all."""
    for name in ("test", "validation"):
        if len(found := np.flatnonzero(split == SPLITS[name])):
            places = np.linspace(0, len(found) - 1, min(max_images, len(found))).astype(np.int64)
            return np.asarray(found[places], dtype=np.int64)
    return np.array([], dtype=np.int64)


def _steps(chosen: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    return (chosen[start : start + STEP_IMAGES] for start in range(0, len(chosen), STEP_IMAGES))


class _Fetcher:
    """Reads images of a pack in an object store."""

    def __init__(self, storage: Storage, key: str) -> None:
        self._storage, self._key = storage, key
        self._found: queue.Queue[Images | Exception | None] = queue.Queue(_AHEAD)  # None: these were all
        self._ended = threading.Event()

    def iterate(self) -> Iterator[Images | None]:
        threading.Thread(target=self._fetch, name="sampled-images", daemon=True).start()
        while True:
            try:
                found = self._found.get(timeout=_LOOK_S)
            except queue.Empty:
                yield None
                continue
            if found is None:
                return
            if isinstance(found, Exception):
                raise found
            yield found

    def end(self) -> None:
        self._ended.set()

    def _fetch(self) -> None:
        try:
            start, shape = self._read_header(SPLIT)
            split = np.frombuffer(self._read(SPLIT, start, int(np.prod(shape))), np.uint8)
            first, (_, *shape_of_one) = self._read_header(IMAGES)
            size = int(np.prod(shape_of_one))
            for step in _steps(choose(split, MAX_FETCHED_IMAGES)):
                read = [self._read(IMAGES, first + int(index) * size, size) for index in step]
                if not self._hand_over([np.frombuffer(image, np.uint8).reshape(shape_of_one) for image in read]):
                    return
            self._hand_over(None)
        except Exception as exc:
            self._hand_over(exc)

    def _hand_over(self, found: Images | Exception | None) -> bool:
        while not self._ended.is_set():
            with contextlib.suppress(queue.Full):
                self._found.put(found, timeout=_LOOK_S)
                return True
        return False

    def _read_header(self, name: str) -> tuple[int, tuple[int, ...]]:
        """Return where an array's numbers begin, and its shape."""
        file = io.BytesIO(self._storage.read_part(self._key, name, 0, _HEADER_BYTES))
        np.lib.format.read_magic(file)
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if is_fortran or dtype != np.uint8:
            raise ValueError(f"{name} of {self._key} does not hold bytes by rows")
        return file.tell(), shape

    def _read(self, name: str, start: int, size: int) -> bytes:
        if self._ended.is_set():
            raise InterruptedError("no longer wanted")
        return self._storage.read_part(self._key, name, start, start + size)
