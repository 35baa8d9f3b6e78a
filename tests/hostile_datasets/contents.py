"""Datasets that nobody can train on, and odd ones that are taken: classes, names, splits, tables and arrays."""

from __future__ import annotations

import gzip
import struct
import unicodedata
from collections.abc import Callable

import numpy as np
from PIL import Image

from tests.alexnet_core.archive_files import Entry, compress, png, raw_zip, tar_of, two_classes, zip_of
from tests.hostile_datasets.case import Case, good_members, zip_beside
from tests.hostile_images import encode

NFC, NFD = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")
FULL_WIDTH = "".join(chr(ord(letter) + 0xFEE0) for letter in "cat")
PICKLE = b"cposix\nsystem\n(S'touch pwned'\ntR."

Members = dict[str, bytes]


def images(**counts: int) -> Callable[[], bytes]:
    """A zip of different images; `a__b` stands for `a/b`."""
    return lambda: zip_of({
        f"{name.replace('__', '/')}/{index:04d}.png": png(10_000 * number + index, 8)
        for number, (name, count) in enumerate(counts.items())
        for index in range(count)
    })  # fmt: skip


def classes(*names: str) -> Callable[[], bytes]:
    return lambda: zip_of(
        {f"{name}/{index}.png": png(100 * number + index) for number, name in enumerate(names) for index in range(12)}
    )


def with_table(name: str, content: bytes) -> Callable[[], bytes]:
    return lambda: zip_of({name: content, **good_members()})


def copies_in(*folders: str) -> Callable[[], bytes]:
    return lambda: zip_of({f"{name}/{index}.png": png() for name in folders for index in range(20)})


def copies(different: int, times: int) -> Callable[[], bytes]:
    """Two classes of some images, each several times."""
    return lambda: zip_of({
        f"{name}/{index}.png": png(index % different + 1000 * (name == "b"))
        for name in "ab"
        for index in range(different * times)
    })  # fmt: skip


def ten_thousand_classes() -> bytes:
    pixels = np.zeros((20_000, 8, 8), np.uint8)
    pixels[:, 0, :2] = np.arange(20_000)[:, None] >> np.array([8, 0]) & 255
    members = {
        f"c{number // 2:05d}/{number % 2}.bmp": encode(Image.fromarray(image), "BMP")
        for number, image in enumerate(pixels)
    }
    return zip_of(members)


def raw_names(*names: bytes) -> Callable[[], bytes]:
    def build() -> bytes:
        good = [Entry(name.encode(), content) for name, content in good_members().items()]
        return raw_zip([*good, *(Entry(name, png(900 + number)) for number, name in enumerate(names))])

    return build


NOTHING = {
    "an empty zip": Case(lambda: zip_of({}), "no_images"),
    "an empty tar": Case(lambda: tar_of({}), "no_images"),
    "only what a system leaves": Case(
        lambda: zip_of({"__MACOSX/a/._1.png": b"x", ".DS_Store": b"x", "Thumbs.db": b"x"}), "no_images"
    ),
    "only folders": Case(lambda: zip_of({"a/": b"", "b/": b""}), "no_images"),
    "images in no folder": Case(lambda: zip_of({f"{index}.png": png(index) for index in range(5)}), "no_images"),
}

CLASSES = {
    "one class": Case(images(cat=20), "too_few_classes"),
    "one class in splits": Case(images(train__cat=20, val__cat=5), "too_few_classes"),
    "an image a class": Case(images(a=1, b=1, c=1), "too_few_images"),
    "one image everywhere": Case(copies_in("a", "b"), "too_few_images"),
    "two copies of each image": Case(copies(10, 2), findings=frozenset({"copies"})),
    "ten copies of each image": Case(copies(2, 10), "too_few_images"),
    "a class that is only tested": Case(images(train__a=20, train__b=20, test__c=5), "class_without_training_images"),
    "an empty class": Case(lambda: zip_beside("empty/", b""), findings=frozenset({"empty_classes"})),
    "a class without an image": Case(lambda: zip_beside("c/notes.txt", b"hello"), "class_without_training_images"),
    "a thousand images to one": Case(
        images(large=1003, small=1), "", findings=frozenset({"imbalance", "nearly_empty_classes"}), num_images=1004
    ),
    "an image in two classes": Case(
        lambda: zip_of(good_members() | {"a/same.png": png(900), "b/same.png": png(900)}),
        findings=frozenset({"duplicates_across_classes"}),
        num_images=42,
    ),
    "an image in two splits": Case(
        lambda: zip_of(
            {f"train/{name}": content for name, content in good_members().items()}
            | {f"val/{name}": content for name, content in two_classes(3).items()}
        ),
        findings=frozenset({"duplicates_across_splits"}),
        num_images=46,
    ),
    "texts in class folders": Case(
        lambda: zip_of({f"{name}/{index}.png": b"hello" for name in "ab" for index in range(20)}), "too_many_rejected"
    ),
    "ten thousand classes": Case(
        ten_thousand_classes, findings=frozenset({"nearly_empty_classes"}), num_images=20_000, num_classes=10_000,
        max_cpu_s=60,
    ),
}  # fmt: skip

SPLITS = {
    "no training split": Case(images(val__a=20, test__b=20), "layout_unclear"),
    "splits beside classes": Case(images(train__a=20, train__b=20, other__a=5), "layout_unclear"),
    "splits in other spellings": Case(images(Training__a=20, Training__b=20, VALID__a=3, testing__b=3), num_images=46),
    "wrapper folders": Case(
        lambda: zip_of({f"flowers/data/{name}": content for name, content in good_members().items()})
    ),
    "what a system leaves beside": Case(lambda: zip_beside("__MACOSX/a/._000.png", b"x")),
}

NAMES = {
    "classes in two cases": Case(classes("Cat", "cat"), "class_names_alike"),
    "classes composed and decomposed": Case(classes(NFC, NFD), "class_names_alike"),
    "a class with something unseen": Case(classes("cat", "cat\u200b"), "class_names_alike"),
    "classes in full and half width": Case(classes("cat", FULL_WIDTH), "class_names_alike"),
    "a class of 101 characters": Case(classes("x" * 101, "b"), "class_name_invalid"),
    "a class that is not seen": Case(classes("\u202e\u200b", "b"), "class_name_invalid"),
    "a class that is a blank": Case(classes(" ", "b"), "class_name_invalid"),
    "a class in emoji": Case(classes("🐈", "🐕"), num_images=24),
    "classes that differ in one letter": Case(
        classes("tulip", "tulips"), findings=frozenset({"class_names_similar"}), num_images=24
    ),
    "files whose names are no UTF-8": Case(raw_names(b"a/\xff\xfe.png", b"b/caf\xe9.png"), num_images=42),
    "files whose names mean something": Case(
        raw_names(b"a/$(touch pwned).png", b"a/'; drop table.png", b"b/-rf.png", b"b/~root.png", b"a/%2e%2e%2f.png"),
        num_images=45,
    ),
    "files whose names are turned around": Case(raw_names("a/\u202egnp.1".encode(), b"a/new\nline.png"), num_images=42),
    "a name that says it is UTF-8": Case(
        lambda: raw_zip([Entry(b"a/\xff.png", png(), flags=0x800)]), "archive_damaged"
    ),
    "a name of no UTF-8 in a tar": Case(
        lambda: compress(tar_of(good_members() | {"b/caf\udce9.png": png(901)}), "gz"), num_images=41
    ),
}  # fmt: skip

TABLES = {
    "a table of other files": Case(with_table("labels.csv", b"file,label\nx.jpg,a\n"), "manifest_names_nothing"),
    "a table that leads out": Case(
        with_table("labels.csv", b"file,label\n../../etc/passwd,a\n/etc/passwd,b\n"), "manifest_names_nothing"
    ),
    "a table with a split of no name": Case(
        with_table("labels.csv", b"file,label,split\na/000.png,x,holdout\n"), "split_unknown"
    ),
    "a table that is no text": Case(
        with_table("labels.csv", b"file,label\n\xff\xfe\x00,\xff\n"), "manifest_unreadable"
    ),
    "a table of a row without end": Case(
        with_table("labels.csv", b'file,label\n"' + b"x" * (4 << 20)), "manifest_unreadable"
    ),
    "a table of brackets": Case(
        with_table("labels.jsonl", b'{"file": "a/000.png", "label": "x"}\n' + b"[" * 100_000), "manifest_unreadable"
    ),
    "a table of many rows": Case(
        with_table("labels.csv", b"file,label\n" + b"a/000.png,x\n" * 5000), "manifest_too_long"
    ),
    "a table of formulas": Case(
        lambda: zip_of({
            "labels.csv": b"file,label\n" + b"".join(
                b"%s,%s\n" % (name.encode(), b"=cmd|'/c calc'!A1" if name < "b" else b"+1") for name in good_members()
            ), **good_members(),
        })
    ),
}  # fmt: skip

ARRAYS = {
    "a CIFAR batch that runs a program": Case(
        lambda: zip_of({f"cifar/data_batch_{number}": PICKLE for number in range(1, 6)} | {"cifar/test_batch": PICKLE}),
        "arrays_damaged",
    ),
    "a CIFAR batch that is cut off": Case(
        lambda: zip_of(
            {f"cifar/data_batch_{number}.bin": bytes(3073) for number in range(1, 6)} | {"cifar/test_batch.bin": b"x"}
        ),
        "arrays_damaged",
    ),
    "an IDX file of 2^62 images": Case(
        lambda: zip_of({
            "train-images-idx3-ubyte": b"\0\0\x08\x03" + struct.pack(">3I", 2**31, 2**16, 2**15),
            "train-labels-idx1-ubyte": b"\0\0\x08\x01" + struct.pack(">I", 2**31),
        }),
        "arrays_damaged",
    ),
    "an IDX bomb in gzip": Case(
        lambda: tar_of({
            "train-images-idx3-ubyte.gz": gzip.compress(
                b"\0\0\x08\x03" + struct.pack(">3I", 300_000, 28, 28) + bytes(200 << 20), 6
            ),
            "train-labels-idx1-ubyte.gz": gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 5) + bytes(5)),
        }),
        "arrays_damaged",
    ),
}  # fmt: skip

CONTENTS = NOTHING | CLASSES | SPLITS | NAMES | TABLES | ARRAYS
