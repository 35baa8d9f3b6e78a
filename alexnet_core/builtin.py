"""The datasets that need no upload. Torch-free, unless one has to be fetched."""

from __future__ import annotations

import gzip
import importlib.util
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet_core.config import DatasetFacts
from alexnet_core.errors import DatasetUnavailable
from alexnet_core.idx import read_idx
from alexnet_core.pack import TEST, TRAIN, VAL, Pack, split_validation, write_pack

_DIGITS_TRAIN = 1437  # the first 1,437 images train (and validate), the last 360 test


@dataclass(frozen=True)
class LabelledImages:
    """A dataset as its publisher split it."""

    images: NDArray[np.uint8]  #: NHWC
    labels: NDArray[np.int64]
    num_test: int  #: the last ones are the test images


@dataclass(frozen=True)
class BuiltinDataset:
    """A dataset that every yard knows by name."""

    facts: DatasetFacts
    source: str  #: who made it and where its files come from
    read: Callable[[Path | None], LabelledImages]  #: from a folder of sources, if one is named


def prepare(name: str, *, source_dir: Path | None, target_dir: Path) -> Pack:
    """Make the pack of a built-in dataset at `target_dir`.

    A tenth of the published training images, stratified and always the same ones, become the validation split.

    Args:
        name: a key of BUILTINS.
        source_dir: a folder with the published files; None: only the usual places.
        target_dir: where the pack will stand.

    Raises:
        DatasetUnavailable: unknown name, or its files are neither here nor to be fetched.
    """
    builtin = BUILTINS.get(name)
    if builtin is None:
        raise DatasetUnavailable(f"There is no built-in dataset {name!r}. Known: {', '.join(BUILTINS)}.")
    data = builtin.read(source_dir)
    split_N = np.full(len(data.labels), TEST, dtype=np.uint8)
    num_train = len(data.labels) - data.num_test
    validation = split_validation(data.labels[:num_train], data.images[:num_train])
    split_N[:num_train] = np.where(validation, VAL, TRAIN)
    return write_pack(
        target_dir,
        name=name,
        class_names=builtin.facts.class_names,
        images_NHWC=data.images,
        labels_N=data.labels,
        split_N=split_N,
        flip_safe=builtin.facts.flip_safe,
    )


def _read_digits(source_dir: Path | None) -> LabelledImages:
    """Out of the scikit-learn wheel, without importing it: 64 pixel values of 0..16 and a label a line."""
    path = _find_digits(source_dir)
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.int64, ndmin=2)
    except (OSError, EOFError, ValueError) as exc:
        raise DatasetUnavailable(f"{path} can't be read ({exc}). Install scikit-learn again.") from exc
    if table.shape != (1797, 65) or table.min() < 0 or table[:, :64].max() > 16 or table[:, 64].max() > 9:
        raise DatasetUnavailable(f"{path} does not hold the 1,797 digits. Install scikit-learn again.")
    # 0..16 becomes 0..255 by rounding v * 255 / 16: seventeen different values, so nothing is lost.
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return LabelledImages(images, table[:, 64].astype(np.int64), len(table) - _DIGITS_TRAIN)


def _find_digits(source_dir: Path | None) -> Path:
    candidates = [source_dir / "digits.csv.gz"] if source_dir else []
    spec = importlib.util.find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz")
    for path in candidates:
        if path.is_file():
            return path
    raise DatasetUnavailable(
        "digits comes with scikit-learn, which is not installed. Install it: pip install scikit-learn."
    )


def _read_fashion_mnist(source_dir: Path | None) -> LabelledImages:
    folders = [source_dir, source_dir / "fashion-mnist", source_dir / "FashionMNIST" / "raw"] if source_dir else []
    for folder in [*folders, Path("/usr/share/datasets/fashion-mnist")]:  # the last: Debian's dataset-fashion-mnist
        if _find_idx(folder, "train-images-idx3-ubyte") is not None:
            return _read_idx_folder(folder)
    return _fetch_fashion_mnist()


def _fetch_fashion_mnist() -> LabelledImages:
    try:
        from torchvision.datasets import FashionMNIST
    except ImportError as exc:
        raise _nowhere("fashion-mnist", exc) from exc
    with tempfile.TemporaryDirectory(prefix="trainyard-fetch-") as folder:
        try:
            FashionMNIST(root=folder, download=True)
        except (OSError, RuntimeError) as exc:
            raise _nowhere("fashion-mnist", exc) from exc
        return _read_idx_folder(Path(folder) / "FashionMNIST" / "raw")


def _nowhere(name: str, exc: Exception) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"{name} is not on this machine and could not be fetched ({exc}). Put its four published files (…-ubyte.gz) "
        "into the folder of dataset sources, or install Debian's package dataset-fashion-mnist."
    )


def _read_idx_folder(folder: Path) -> LabelledImages:
    """The four files of MNIST's layout."""
    parts = [
        (_require_idx(folder, f"{part}-images-idx3-ubyte", 3), _require_idx(folder, f"{part}-labels-idx1-ubyte", 1))
        for part in ("train", "t10k")
    ]
    for images, labels in parts:
        if len(images) != len(labels) or images.shape[1:] != (28, 28) or (len(labels) and labels.max() > 9):
            raise DatasetUnavailable(f"The files in {folder} don't fit each other. Fetch them again.")
    all_images = np.concatenate([images for images, _ in parts])[..., None]
    all_labels = np.concatenate([labels for _, labels in parts]).astype(np.int64)
    return LabelledImages(all_images, all_labels, len(parts[1][1]))


def _find_idx(folder: Path, stem: str) -> Path | None:
    return next((path for path in (folder / f"{stem}.gz", folder / stem) if path.is_file()), None)


def _require_idx(folder: Path, stem: str, dimensions: int) -> NDArray[np.uint8]:
    path = _find_idx(folder, stem)
    if path is None:
        raise DatasetUnavailable(f"{folder} has no {stem}.gz. Put all four published files there.")
    return read_idx(path, dimensions=dimensions)


_FASHION_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)

BUILTINS: dict[str, BuiltinDataset] = {
    "digits": BuiltinDataset(
        facts=DatasetFacts(
            name="digits",
            num_classes=10,
            class_names=tuple("0123456789"),
            image_px=8,
            channels=1,
            flip_safe=False,
            num_test=1797 - _DIGITS_TRAIN,
        ),
        source="1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998, UCI), out of the scikit-learn wheel.",
        read=_read_digits,
    ),
    "fashion-mnist": BuiltinDataset(
        facts=DatasetFacts(
            name="fashion-mnist",
            num_classes=10,
            class_names=_FASHION_CLASSES,
            image_px=28,
            channels=1,
            flip_safe=True,
            num_test=10_000,
        ),
        source="60,000 + 10,000 grey 28x28 pictures of clothes (Xiao, Rasul and Vollgraf 2017), MIT licence.",
        read=_read_fashion_mnist,
    ),
}
