"""CIFAR's batches and pairs of IDX files, found in folders and archives."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from alexnet_core.data.intake.options import IntakeOptions
from alexnet_core.data.intake.packing import pack_images
from alexnet_core.data.layouts import image_arrays
from alexnet_core.data.pack import TEST, TRAIN
from alexnet_core.data.published.labelled import LabelledImages
from alexnet_core.errors import DatasetInvalid
from tests.alexnet_core.archive_files import zip_of
from tests.alexnet_core.data.intake.test_packing import report_of
from tests.alexnet_core.published import make_cifar, pack_tar, write_cifar, write_mnist

OPTIONS = IntakeOptions(name="mine", threads=2)


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def random_bytes(*shape: int, high: int = 256) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, high, shape).astype(np.uint8)


@pytest.mark.parametrize("num_classes", [10, 100])
@pytest.mark.parametrize("layout", ["binary", "python"])
@pytest.mark.parametrize("where", ["folder", "wrapped", "tar.gz"])
def test_cifar_is_found_in_a_folder_and_an_archive(tmp_path: Path, num_classes: int, layout: str, where: str) -> None:
    made = make_cifar(num_classes, per_batch=50)
    labels = np.arange(len(made.labels)) % num_classes  # every class has images to train on
    data = LabelledImages(made.images, labels, made.num_test)
    folder = tmp_path / "mine" / "cifar" if where == "wrapped" else tmp_path / "mine"
    write_cifar(folder, data, num_classes=num_classes, layout=layout)
    (folder / "readme.html").touch()
    (folder / ("meta" if layout == "python" else "batches.meta.txt")).touch()
    path = pack_tar(tmp_path / "mine", tmp_path / "mine.tar.gz") if where == "tar.gz" else tmp_path / "mine"
    pack = pack_images(path, tmp_path / "pack", OPTIONS)
    assert np.array_equal(pack.images, data.images)
    assert np.array_equal(pack.labels, data.labels)
    assert ((pack.split == TEST) == (np.arange(len(data.labels)) >= data.num_train)).all()
    assert len(pack.class_names) == num_classes
    report = report_of(pack)
    assert (report["layout"]["kind"], report["made_splits"]) == (f"cifar{num_classes}", ["validation"])
    assert (report["colour_modes"], len(report["outside_classes"])) == ({"RGB": len(labels)}, 2)


def test_what_cifar_lacks_is_named(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "mine", make_cifar(10), num_classes=10, layout="binary")
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(DatasetInvalid, match=r"data_batch_3\.bin") as exc:
        pack_images(folder, tmp_path / "pack", OPTIONS)
    assert exc.value.problem == "arrays_damaged"
    (folder / "data_batch_3.bin").write_bytes(b"x")
    with pytest.raises(DatasetInvalid, match=r"data_batch_3\.bin"):
        pack_images(folder, tmp_path / "pack", OPTIONS)


def test_files_called_train_and_test_are_not_cifar(tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).touch()
    with pytest.raises(DatasetInvalid) as exc:
        pack_images(tmp_path / "mine", tmp_path / "pack", OPTIONS)
    assert exc.value.problem == "no_images"


def test_the_files_of_mnist_are_found(tmp_path: Path) -> None:
    data = write_mnist(tmp_path / "mine" / "raw", num_train=60)
    pack = pack_images(tmp_path / "mine", tmp_path / "pack", OPTIONS)
    order = [*range(60, 70), *range(60)]  # t10k comes before train
    assert np.array_equal(pack.images, data.images[order])
    assert np.array_equal(pack.labels, data.labels[order])
    assert (pack.split[:10] == TEST).all()
    assert (pack.split[10:] != TEST).all()
    assert pack.class_names == tuple("0123456789")
    assert report_of(pack)["layout"]["kind"] == "idx"
    members = {f"a/{path.name}": path.read_bytes() for path in (tmp_path / "mine" / "raw").iterdir()}
    (tmp_path / "mine.zip").write_bytes(zip_of(members))
    assert pack_images(tmp_path / "mine.zip", tmp_path / "zipped", OPTIONS).digest == pack.digest


def test_one_pair_of_other_sizes_in_colour_with_gaps_in_its_labels(tmp_path: Path) -> None:
    images, labels = random_bytes(60, 10, 14, 3), np.array([3, 7, 9] * 20, dtype=np.uint8)
    write_idx(tmp_path / "mine" / "flowers_images.idx4.ubyte", images)
    write_idx(tmp_path / "mine" / "flowers_labels.idx1.ubyte.gz", labels)
    pack = pack_images(tmp_path / "mine", tmp_path / "pack", OPTIONS)
    assert (pack.class_names, pack.images.shape) == (("3", "7", "9"), (60, 10, 10, 3))
    assert np.array_equal(pack.images, images[:, :, 2:12])
    assert report_of(pack)["made_splits"] == ["validation", "test"]
    assert (pack.split == TRAIN).sum() > 40


def test_a_file_that_is_there_plain_and_compressed_is_read_once(tmp_path: Path) -> None:
    for ending in ("", ".gz"):
        write_idx(tmp_path / "mine" / f"train-images-idx3-ubyte{ending}", random_bytes(40, 8, 8))
        write_idx(tmp_path / "mine" / f"train-labels-idx1-ubyte{ending}", random_bytes(40, high=2))
    assert len(pack_images(tmp_path / "mine", tmp_path / "pack", OPTIONS).labels) == 40


def test_pairs_that_do_not_fit_or_are_of_several_datasets_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    write_idx(folder / "train-images-idx3-ubyte", random_bytes(40, 8, 8))
    write_idx(folder / "train-labels-idx1-ubyte", random_bytes(39, high=2))

    def problem() -> str:
        with pytest.raises(DatasetInvalid) as exc:
            pack_images(folder, tmp_path / "pack", OPTIONS)
        return exc.value.problem

    assert problem() == "arrays_damaged"
    write_idx(folder / "train-labels-idx1-ubyte", random_bytes(40, high=2))
    monkeypatch.setattr(image_arrays, "MAX_IDX_BYTES", 2000)
    assert problem() == "arrays_damaged"
    monkeypatch.undo()
    content = b"\0\0\x08\x03" + struct.pack(">III", 2_000_000, 28, 28)
    (folder / "train-images-idx3-ubyte").write_bytes(gzip.compress(content + bytes(10 << 20)))
    assert problem() == "arrays_damaged"
    for name in ("letters", "digits"):
        write_idx(folder / f"emnist-{name}-train-images-idx3-ubyte", random_bytes(4, 8, 8))
        write_idx(folder / f"emnist-{name}-train-labels-idx1-ubyte", random_bytes(4))
    assert problem() == "layout_unclear"
