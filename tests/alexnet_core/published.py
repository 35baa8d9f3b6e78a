"""Small files in exactly the formats in which CIFAR and MNIST are published, written byte by byte."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alexnet_core.data.published.labelled import LabelledImages

BATCHES = [f"data_batch_{number}" for number in range(1, 6)]


def make_cifar(num_classes: int, per_batch: int = 8, seed: int = 0) -> LabelledImages:
    """Random images: five train batches (CIFAR-100: one file) and as many test images as a batch has."""
    generator = np.random.default_rng(seed)
    total = per_batch * 6
    images = generator.integers(0, 256, (total, 32, 32, 3)).astype(np.uint8)
    return LabelledImages(images, generator.integers(0, num_classes, total), per_batch)


def python2_pickle(
    rows: NDArray[np.uint8], label_key: bytes, labels: list[int], module: bytes = b"numpy.core"
) -> bytes:
    """A batch as Python 2's cPickle wrote it, with protocol 2."""

    def text(value: bytes) -> bytes:
        return b"U" + bytes([len(value)]) + value

    def number(value: int) -> bytes:
        return b"K" + bytes([value]) if value < 256 else b"M" + struct.pack("<H", value)

    out = b"\x80\x02}q\x01(" + text(b"batch_label") + b"q\x02" + text(b"training batch 1 of 5") + b"q\x03"
    out += text(label_key) + b"q\x04]q\x05(" + b"".join(map(number, labels)) + b"e"
    out += text(b"data") + b"q\x06c" + module + b".multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85"
    out += text(b"b") + b"\x87Rq\x09(K\x01" + number(len(rows)) + number(rows.shape[1]) + b"\x86"
    out += b"cnumpy\ndtype\nq\x0aU\x02u1K\x00K\x01\x87Rq\x0b(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    out += b"\x89T" + struct.pack("<i", rows.size) + rows.tobytes() + b"tb"
    out += text(b"filenames") + b"q\x0c](" + b"".join(text(b"a_%06d.png" % row) for row in range(len(rows))) + b"e"
    return out + b"u."


def write_cifar(folder: Path, data: LabelledImages, *, num_classes: int, layout: str) -> Path:
    """The published files in a folder; layout `binary` or `python`."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = data.images.transpose(0, 3, 1, 2).reshape(len(data.images), -1)
    sizes = [data.num_test] * 5 if num_classes == 10 else [data.num_train]
    names = [*(BATCHES if num_classes == 10 else ["train"]), "test_batch" if num_classes == 10 else "test"]
    start = 0
    for name, size in zip(names, [*sizes, data.num_test], strict=True):
        part, labels = rows[start : start + size], data.labels[start : start + size]
        start += size
        if layout == "python":
            key = b"labels" if num_classes == 10 else b"fine_labels"
            (folder / name).write_bytes(python2_pickle(part, key, labels.tolist()))
            continue
        coarse = [] if num_classes == 10 else [labels[:, None] // 5]
        records = np.concatenate([*coarse, labels[:, None], part], axis=1).astype(np.uint8)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    return folder


def pack_tar(folder: Path, target: Path) -> Path:
    with tarfile.open(target, "w:gz") as archive:
        archive.add(folder, arcname=folder.name)
    return target


def tar_of(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def write_mnist(folder: Path, *, num_train: int = 40, num_test: int = 10, seed: int = 0) -> LabelledImages:
    """Four gzipped IDX files of random images."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    images = generator.integers(0, 256, (num_train + num_test, 28, 28)).astype(np.uint8)
    labels = np.arange(num_train + num_test) % 10
    for part, rows in (("train", slice(0, num_train)), ("t10k", slice(num_train, None))):
        shape = images[rows].shape
        header = b"\0\0\x08\x03" + struct.pack(">III", *shape)
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(gzip.compress(header + images[rows].tobytes()))
        content = b"\0\0\x08\x01" + struct.pack(">I", shape[0]) + labels[rows].astype(np.uint8).tobytes()
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(content))
    return LabelledImages(images[..., None], labels, num_test)
