"""A strict reader of CIFAR-10 and CIFAR-100 as published (Krizhevsky 2009; cs.toronto.edu/~kriz/cifar.html).

Torch-free. Both layouts are read, from a folder or out of the .tar.gz, which is never unpacked to disk:

binary   one record an image: its label (CIFAR-100: the coarse label, then the fine one), 1,024 red, green, blue bytes
python   a pickled dictionary a file: `data` (N, 3072), the same bytes; `labels` (CIFAR-100: `fine_labels`)
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal, cast

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.published.labelled import LabelledImages
from alexnet_core.data.published.pickles import PickleRefused, read_pickle
from alexnet_core.errors import DatasetUnavailable

SIDE_PX = 32
_PIXEL_BYTES = 3 * SIDE_PX * SIDE_PX
MAX_FILE_BYTES = 200_000_000  # CIFAR-100's larger file has 155 MB
_MAX_UNPACKED_BYTES = 300_000_000  # all of CIFAR-100 has 187 MB
_DAMAGE = (OSError, EOFError, zlib.error, tarfile.TarError, ValueError, OverflowError)

Part = tuple[NDArray[np.uint8], NDArray[np.int64]]


@dataclass(frozen=True)
class _Layout:
    """The names of a dataset's files, and where their labels are."""

    train: tuple[str, ...]
    test: str
    label_key: str | None = None  #: of the python layout; None: binary
    num_label_bytes: int = 1  #: of the binary layout; the last one counts

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.train, self.test)


_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))
_LAYOUTS: dict[int, tuple[_Layout, _Layout]] = {
    10: (
        _Layout(tuple(f"{name}.bin" for name in _BATCHES), "test_batch.bin"),
        _Layout(_BATCHES, "test_batch", label_key="labels"),
    ),
    100: (
        _Layout(("train.bin",), "test.bin", num_label_bytes=2),
        _Layout(("train",), "test", label_key="fine_labels"),
    ),
}
_GENERAL_NAMES, _BESIDE_GENERAL_NAMES = ("train", "test"), "meta"  # of CIFAR-100's python layout
_PLACES = {
    10: ("cifar-10-batches-bin", "cifar-10-batches-py", "cifar-10-binary.tar.gz", "cifar-10-python.tar.gz"),
    100: ("cifar-100-binary", "cifar-100-python", "cifar-100-binary.tar.gz", "cifar-100-python.tar.gz"),
}


def find_cifar(folder: Path, *, num_classes: Literal[10, 100]) -> Path | None:
    """Find the published files in a folder: as files, as the folder from the archive, or as the archive."""
    for path in (folder, *(folder / place for place in _PLACES[num_classes])):
        if path.is_file() or any((path / layout.test).is_file() for layout in _LAYOUTS[num_classes]):
            return path
    return None


def read_cifar(source: Path, *, num_classes: Literal[10, 100]) -> LabelledImages:
    """All images of CIFAR-10 or CIFAR-100 (fine labels), in the order of the files.

    Args:
        source: a folder with the files, or the .tar.gz.
        num_classes: which of the two.

    Raises:
        DatasetUnavailable: a file is missing, damaged, too large or not what was expected.
    """
    return read_batches(_read_files(source, _layouts_by_name(num_classes)), num_classes=num_classes, source=source)


def name_batches(names: Collection[str]) -> tuple[Literal[10, 100], tuple[str, ...]] | None:
    """Say whether files are those of CIFAR-10 or CIFAR-100, by the names that are in one folder.

    Returns:
        The number of classes, and the names of the files to read. None: they are other files.
    """
    both: tuple[Literal[10, 100], ...] = (10, 100)
    for num_classes in both:
        for layout in _LAYOUTS[num_classes]:
            is_general = layout.names == _GENERAL_NAMES and _BESIDE_GENERAL_NAMES not in names
            if not is_general and {layout.train[0], layout.test} <= set(names):
                return num_classes, layout.names
    return None


def read_batches(
    files: Iterable[tuple[str, bytes]], *, num_classes: Literal[10, 100], source: object
) -> LabelledImages:
    """Read the images of CIFAR-10 or CIFAR-100 (fine labels) from the contents of its files.

    Args:
        files: name and content of each; the content is needed no longer when the next one is asked for.
        num_classes: which of the two.
        source: where the files are, for messages.

    Raises:
        DatasetUnavailable: a file is missing, damaged or not what was expected.
    """
    layouts, by_name = _LAYOUTS[num_classes], _layouts_by_name(num_classes)
    parts: dict[str, Part] = {}
    try:
        for name, content in files:
            parts[name] = _read_part(content, by_name[name], num_classes, f"{name} of {source}")
    except DatasetUnavailable:
        raise
    except _DAMAGE as exc:
        raise DatasetUnavailable(f"{source} can't be read ({exc!s:.200}). Fetch it again.") from exc
    for layout in layouts:
        if parts.keys() >= set(layout.names):
            used = [parts[name] for name in layout.names]
            images = np.concatenate([images for images, _ in used])
            return LabelledImages(images, np.concatenate([labels for _, labels in used]), len(used[-1][1]))
    nearest = max(layouts, key=lambda layout: len(parts.keys() & set(layout.names)))
    missing = [name for name in nearest.names if name not in parts]
    raise DatasetUnavailable(
        f"{source} has no {', '.join(missing)}. Put all published files of CIFAR-{num_classes} there."
    )


def _layouts_by_name(num_classes: Literal[10, 100]) -> dict[str, _Layout]:
    return {name: layout for layout in _LAYOUTS[num_classes] for name in layout.names}


def _read_files(source: Path, by_name: dict[str, _Layout]) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each wanted file that exists, one at a time."""
    if source.is_file():
        yield from _read_archive(source, by_name)
        return
    for layout in dict.fromkeys(by_name.values()):
        if all((source / name).is_file() for name in layout.names):
            break
    else:
        layout = next((it for it in by_name.values() if (source / it.test).is_file()), layout)
    for name in layout.names:
        path = source / name
        if path.is_file():
            _require_size(path.stat().st_size, path)
            yield name, path.read_bytes()


def _read_archive(source: Path, by_name: dict[str, _Layout]) -> Iterator[tuple[str, bytes]]:
    with gzip.open(source, "rb") as unzipped, _open_tar(unzipped, source) as archive:
        for member in archive:
            name = PurePosixPath(member.name).name
            if name not in by_name or not member.isreg() or member.issparse():  # a sparse one holds more than was read
                continue
            _require_size(member.size, f"{name} of {source}")
            file = archive.extractfile(member)
            if file is not None:
                yield name, file.read()


def _open_tar(unzipped: gzip.GzipFile, source: Path) -> tarfile.TarFile:
    return tarfile.open(fileobj=cast(IO[bytes], _Bounded(unzipped, source)), mode="r|")  # it only ever reads on


class _Bounded:
    """Reads only a limited number of bytes, because a small archive can unpack to any size."""

    def __init__(self, file: gzip.GzipFile, source: Path) -> None:
        self._file, self._source, self._left = file, source, _MAX_UNPACKED_BYTES

    def read(self, size: int) -> bytes:
        content = self._file.read(size)
        self._left -= len(content)
        if self._left < 0:
            raise DatasetUnavailable(f"{self._source} unpacks to more than CIFAR has. Fetch it again.")
        return content


def _require_size(size_bytes: int, what: object) -> None:
    if size_bytes > MAX_FILE_BYTES:
        raise DatasetUnavailable(f"{what} has {size_bytes:,} bytes, more than any file of CIFAR. Fetch it again.")


def _read_part(content: bytes, layout: _Layout, num_classes: int, what: str) -> Part:
    pixels, labels = (
        _read_binary(content, layout, what) if layout.label_key is None else _read_python(content, layout, what)
    )
    if len(labels) == 0:
        raise DatasetUnavailable(f"{what} contains no images. Fetch it again.")
    if labels.min() < 0 or labels.max() >= num_classes:
        raise DatasetUnavailable(f"{what} has labels outside 0..{num_classes - 1}: it is damaged, or another dataset.")
    images_NHWC = pixels.reshape(-1, 3, SIDE_PX, SIDE_PX).transpose(0, 2, 3, 1)
    return np.ascontiguousarray(images_NHWC), labels


def _read_binary(content: bytes, layout: _Layout, what: str) -> Part:
    record_bytes = layout.num_label_bytes + _PIXEL_BYTES
    if len(content) % record_bytes:
        raise DatasetUnavailable(
            f"{what} has {len(content):,} bytes, not a multiple of {record_bytes:,}: it is cut off, or not such a file."
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, record_bytes)
    return records[:, layout.num_label_bytes :], records[:, layout.num_label_bytes - 1].astype(np.int64)


def _read_python(content: bytes, layout: _Layout, what: str) -> Part:
    try:
        batch = read_pickle(content)
    except PickleRefused as exc:
        raise DatasetUnavailable(f"{what} is refused: {exc}. Fetch it again.") from exc
    pixels, labels = batch.get("data"), batch.get(layout.label_key or "")
    if not isinstance(pixels, np.ndarray) or pixels.shape[1:] != (_PIXEL_BYTES,):
        raise DatasetUnavailable(f"{what} has no array `data` of N x {_PIXEL_BYTES} bytes. Fetch it again.")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise DatasetUnavailable(f"{what} has no list `{layout.label_key}` of labels. Fetch it again.")
    if len(labels) != len(pixels):
        raise DatasetUnavailable(f"{what} has {len(pixels)} images but {len(labels)} labels. Fetch it again.")
    return pixels, np.array(labels, dtype=np.int64)


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle "
    "caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant "
    "flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man "
    "maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree "
    "plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper "
    "snail snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train "
    "trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
CIFAR100_CLASSES = tuple(_CIFAR100.split())
