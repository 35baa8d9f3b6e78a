"""The datasets that need no upload. Torch-free, unless one has to be downloaded."""

from __future__ import annotations

import gzip
import importlib.util
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from alexnet_core.config import DatasetFacts
from alexnet_core.data.pack import TEST, TRAIN, VALIDATION, Pack
from alexnet_core.data.pack_draft import write_pack
from alexnet_core.data.published.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, find_cifar, read_cifar
from alexnet_core.data.published.fetching import fetched_cifar, fetched_mnist
from alexnet_core.data.published.idx import find_mnist, read_mnist
from alexnet_core.data.published.labelled import LabelledImages
from alexnet_core.data.splits import split_validation
from alexnet_core.errors import DatasetUnavailable

_DIGITS_TRAIN = 1437  # the first 1,437 images train (and validate), the last 360 test
_DEBIAN = Path("/usr/share/datasets")  # where packages such as dataset-fashion-mnist put their files


@dataclass(frozen=True)
class BuiltinDataset:
    """A dataset that every yard knows by name."""

    facts: DatasetFacts
    source: str  #: who made it and where its files come from
    num_published: tuple[int, int]  #: images to train (and validate) on, and to test on
    read: Callable[[Path | None], LabelledImages]  #: from a folder (or archive) of its files, if one is named


def prepare(name: str, *, source_dir: Path | None, target_dir: Path) -> Pack:
    """Make the pack of a built-in dataset at `target_dir`.

    A tenth of the published training images, from each class and always the same ones, becomes the validation split.

    Args:
        name: a key of BUILTINS.
        source_dir: the folder with this dataset's published files, or their archive; None: the usual places, else one
            download.
        target_dir: where the pack will stand.

    Raises:
        DatasetUnavailable: unknown name, or its files are damaged, incomplete, or neither here nor to be fetched.
    """
    builtin = BUILTINS.get(name)
    if builtin is None:
        raise DatasetUnavailable(f"There is no built-in dataset {name!r}. Known: {', '.join(BUILTINS)}.")
    data = builtin.read(source_dir)
    if (data.num_train, data.num_test) != builtin.num_published:
        raise DatasetUnavailable(
            f"The files of {name} hold {data.num_train:,} + {data.num_test:,} images, not the published "
            f"{builtin.num_published[0]:,} + {builtin.num_published[1]:,}. Fetch them again."
        )
    split_N = np.full(len(data.labels), TEST, dtype=np.uint8)
    validation = split_validation(data.labels[: data.num_train], data.images[: data.num_train])
    split_N[: data.num_train] = np.where(validation, VALIDATION, TRAIN)
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
    """Read the digits from the scikit-learn package without importing it.

    Each line has 64 pixel values of 0..16 and a label.
    """
    path = _find_digits(source_dir)
    try:
        with gzip.open(path, "rt", encoding="ascii") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.int64, ndmin=2)
    except (OSError, EOFError, ValueError, zlib.error) as exc:
        raise DatasetUnavailable(f"{path} can't be read ({exc}). Install scikit-learn again.") from exc
    if table.shape != (1797, 65) or table.min() < 0 or table[:, :64].max() > 16 or table[:, 64].max() > 9:
        raise DatasetUnavailable(f"{path} does not hold the 1,797 digits. Install scikit-learn again.")
    # 0..16 becomes 0..255 by rounding v * 255 / 16: seventeen different values, so nothing is lost.
    images = np.round(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    return LabelledImages(images, table[:, 64].astype(np.int64), len(table) - _DIGITS_TRAIN)


def _find_digits(source_dir: Path | None) -> Path:
    if source_dir is not None:
        if (source_dir / "digits.csv.gz").is_file():
            return source_dir / "digits.csv.gz"
        raise _not_in("digits", source_dir)
    spec = importlib.util.find_spec("sklearn")
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.is_file():
            return path
    raise DatasetUnavailable(
        "digits comes with scikit-learn, which is not installed. Install it: pip install scikit-learn."
    )


def _read_mnist(source_dir: Path | None, *, name: Literal["mnist", "fashion-mnist"]) -> LabelledImages:
    place = {"mnist": "MNIST/raw", "fashion-mnist": "FashionMNIST/raw"}[name]  # as torchvision keeps them
    if source_dir is not None:
        folder = find_mnist(source_dir, place)
        if folder is None:
            raise _not_in(name, source_dir)
        return read_mnist(folder)
    folder = find_mnist(_DEBIAN / name)
    if folder is not None:
        return read_mnist(folder)
    with fetched_mnist(name) as folder:
        return read_mnist(folder)


def _read_cifar(source_dir: Path | None, *, name: Literal["cifar10", "cifar100"]) -> LabelledImages:
    num_classes: Literal[10, 100] = 10 if name == "cifar10" else 100
    if source_dir is not None:
        source = find_cifar(source_dir, num_classes=num_classes)
        if source is None:
            raise _not_in(name, source_dir)
        return read_cifar(source, num_classes=num_classes)
    with fetched_cifar(name) as archive:
        return read_cifar(archive, num_classes=num_classes)


def _not_in(name: str, folder: Path) -> DatasetUnavailable:
    return DatasetUnavailable(f"{folder} has none of the published files of {name}. Put them there.")


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


def _facts(name: str, class_names: tuple[str, ...], **values: object) -> DatasetFacts:
    return DatasetFacts.model_validate(
        {"name": name, "num_classes": len(class_names), "class_names": class_names, **values}
    )


_TEN_DIGITS = tuple("0123456789")

BUILTINS: dict[str, BuiltinDataset] = {
    "digits": BuiltinDataset(
        facts=_facts("digits", _TEN_DIGITS, image_px=8, channels=1, flip_safe=False, num_test=1797 - _DIGITS_TRAIN),
        source="1,797 handwritten digits of 8x8 pixels (Alpaydin and Kaynak 1998, UCI), out of the scikit-learn wheel.",
        num_published=(_DIGITS_TRAIN, 1797 - _DIGITS_TRAIN),
        read=_read_digits,
    ),
    "mnist": BuiltinDataset(
        facts=_facts("mnist", _TEN_DIGITS, image_px=28, channels=1, flip_safe=False, num_test=10_000),
        source="60,000 + 10,000 handwritten digits of 28x28 pixels (LeCun, Bottou, Bengio and Haffner 1998).",
        num_published=(60_000, 10_000),
        read=partial(_read_mnist, name="mnist"),
    ),
    "fashion-mnist": BuiltinDataset(
        facts=_facts("fashion-mnist", _FASHION_CLASSES, image_px=28, channels=1, flip_safe=True, num_test=10_000),
        source="60,000 + 10,000 grey 28x28 pictures of clothes (Xiao, Rasul and Vollgraf 2017), MIT licence.",
        num_published=(60_000, 10_000),
        read=partial(_read_mnist, name="fashion-mnist"),
    ),
    "cifar10": BuiltinDataset(
        facts=_facts("cifar10", CIFAR10_CLASSES, image_px=32, channels=3, flip_safe=True, num_test=10_000),
        source="50,000 + 10,000 colour 32x32 photographs of ten things (Krizhevsky 2009).",
        num_published=(50_000, 10_000),
        read=partial(_read_cifar, name="cifar10"),
    ),
    "cifar100": BuiltinDataset(
        facts=_facts("cifar100", CIFAR100_CLASSES, image_px=32, channels=3, flip_safe=True, num_test=10_000),
        source="50,000 + 10,000 colour 32x32 photographs of a hundred things, by their fine labels (Krizhevsky 2009).",
        num_published=(50_000, 10_000),
        read=partial(_read_cifar, name="cifar100"),
    ),
}
