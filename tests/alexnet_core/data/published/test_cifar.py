"""CIFAR's published files, whole, damaged and malicious."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
import tarfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from alexnet_core.data.published import cifar
from alexnet_core.data.published.cifar import CIFAR10_CLASSES, CIFAR100_CLASSES, find_cifar, read_cifar
from alexnet_core.data.published.pickles import PickleRefused, read_pickle
from alexnet_core.errors import DatasetUnavailable
from tests.alexnet_core.published import make_cifar, pack_tar, python2_pickle, tar_of, write_cifar

ROWS = np.arange(2 * 3072, dtype=np.uint64).astype(np.uint8).reshape(2, 3072)


def test_the_classes_are_all_there() -> None:
    assert (len(set(CIFAR10_CLASSES)), len(set(CIFAR100_CLASSES))) == (10, 100)
    assert sorted(CIFAR100_CLASSES) == list(CIFAR100_CLASSES)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("layout", ["binary", "python"])
@pytest.mark.parametrize("num_classes", [10, 100])
def test_both_layouts_are_read_from_a_folder_and_from_an_archive(
    tmp_path: Path, num_classes: Literal[10, 100], layout: str, packed: bool
) -> None:
    data = make_cifar(num_classes)
    source = write_cifar(tmp_path / "files", data, num_classes=num_classes, layout=layout)
    if packed:
        source = pack_tar(source, tmp_path / "files.tar.gz")
    found = read_cifar(source, num_classes=num_classes)
    assert np.array_equal(found.images, data.images)
    assert np.array_equal(found.labels, data.labels)
    assert found.num_test == data.num_test


@pytest.mark.parametrize(
    ("num_classes", "place"),
    [(10, ""), (10, "cifar-10-batches-bin"), (10, "cifar-10-batches-py"), (100, "cifar-100-python"), (100, "")],
)
def test_the_files_are_found_in_a_folder_and_where_the_archive_has_them(
    tmp_path: Path, num_classes: Literal[10, 100], place: str
) -> None:
    layout = "python" if "py" in place else "binary"
    folder = write_cifar(tmp_path / place, make_cifar(num_classes), num_classes=num_classes, layout=layout)
    assert find_cifar(tmp_path, num_classes=num_classes) == folder
    assert find_cifar(tmp_path / "elsewhere", num_classes=num_classes) is None


def test_an_archive_in_the_folder_is_found(tmp_path: Path) -> None:
    files = write_cifar(tmp_path / "cifar-10-batches-py", make_cifar(10), num_classes=10, layout="python")
    (tmp_path / "sources").mkdir()
    archive = pack_tar(files, tmp_path / "sources" / "cifar-10-python.tar.gz")
    assert find_cifar(tmp_path / "sources", num_classes=10) == archive


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path, make_cifar(10), num_classes=10, layout="python")
    (folder / "data_batch_3").unlink()
    with pytest.raises(DatasetUnavailable, match=r"has no data_batch_3\. Put all"):
        read_cifar(folder, num_classes=10)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda content: content[:-1], "not a multiple of 3,073"),
        (lambda content: content + b"\0", "not a multiple of 3,073"),
        (lambda content: b"", "contains no images"),
        (lambda content: b"\x0a" + content[1:], "labels outside 0..9"),
    ],
)
def test_a_binary_file_of_another_size_or_with_other_labels_is_refused(
    tmp_path: Path, change: Callable[[bytes], bytes], says: str
) -> None:
    folder = write_cifar(tmp_path, make_cifar(10), num_classes=10, layout="binary")
    path = folder / "data_batch_2.bin"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(DatasetUnavailable, match=says):
        read_cifar(folder, num_classes=10)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (python2_pickle(ROWS[:, :3000], b"labels", [1, 2]), "no array `data`"),
        (python2_pickle(ROWS, b"names", [1, 2]), "no list `labels`"),
        (python2_pickle(ROWS, b"labels", [1]), "2 images but 1 labels"),
        (python2_pickle(ROWS, b"labels", [1, 300]), "no list `labels` of labels"),
        (python2_pickle(ROWS, b"labels", [1, 10]), "labels outside"),
        (pickle.dumps([1, 2], protocol=2), "it holds a list, not a dictionary"),
        (pickle.dumps({"data": 1}, protocol=0), "which no published file needs"),
        (b"\x89PNG\r\n", "refused: it holds PERSID"),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path: Path, content: bytes, says: str) -> None:
    folder = write_cifar(tmp_path, make_cifar(10), num_classes=10, layout="python")
    (folder / "data_batch_1").write_bytes(content)
    with pytest.raises(DatasetUnavailable, match=says):
        read_cifar(folder, num_classes=10)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_malicious_pickle_runs_nothing(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "marker"
    content = pickle.dumps({"data": Evil(marker)}, protocol=protocol)
    with pytest.raises(PickleRefused, match=r"asks for 'posix\.mkdir'"):
        read_pickle(content)
    assert not marker.exists()
    pickle.loads(content)
    assert marker.exists(), "it would have"


@pytest.mark.parametrize(
    "opcodes",
    [
        b"cbuiltins\neval\nU\x011\x85R",
        b"cnumpy\nload\nU\x011\x85R",
        b"cnumpy\nndarray\nK\x00\x85R",  # numpy's own constructor is not called either
        b"cnumpy\ndtype\nU\x01O\x85R",  # an array of objects
        b"cnumpy.core.multiarray\n_reconstruct\ncbuiltins\nlist\nK\x00\x85U\x01b\x87R",
        b"cnumpy\nndarray\nK\x00b",  # a state for something that takes none
        b"(ios\nsystem\n",
        b"\x82\x01",  # a registered extension
        b"Pname\n",  # a persistent id
        b"Nq\x01r\xff\xff\xff\x7f.",  # nothing is reserved for a memo of that length
        b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7fx",
        b"\x96\xff\xff\xff\xff\xff\xff\xff\x7fx",
        b"}(K\x01\x85K\x02u",  # a tuple as a key, which would be hashed
        b"u",
        b"(",
        b"h\x07",
    ],
)
def test_a_crafted_pickle_is_refused_without_memory_or_effect(opcodes: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PickleRefused):
            read_pickle(b"\x80\x02" + opcodes + b".")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_pickles_of_python_3_and_of_fortran_order_are_read() -> None:
    for protocol in (3, 4):
        found = read_pickle(pickle.dumps({"data": ROWS, "labels": [1, 2], b"batch_label": b"x"}, protocol=protocol))
        assert np.array_equal(found["data"], ROWS)
        assert (found["labels"], found["batch_label"]) == ([1, 2], b"x")
    fortran = pickle.dumps({b"data": np.asfortranarray(ROWS)}, protocol=4)
    assert np.array_equal(read_pickle(fortran)["data"], ROWS)


@pytest.mark.parametrize("cut", [10, 100, 5000])
def test_a_cut_off_archive_is_refused(tmp_path: Path, cut: int) -> None:
    files = write_cifar(tmp_path / "files", make_cifar(10), num_classes=10, layout="binary")
    archive = pack_tar(files, tmp_path / "files.tar.gz")
    archive.write_bytes(archive.read_bytes()[:-cut])
    with pytest.raises(DatasetUnavailable, match=r"can't be read|has no"):
        read_cifar(archive, num_classes=10)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "_MAX_UNPACKED_BYTES", 1_000_000)
    archive = tmp_path / "bomb.tar.gz"
    archive.write_bytes(tar_of({"a/filler": bytes(2_000_000)}))
    with pytest.raises(DatasetUnavailable, match="unpacks to more than CIFAR has"):
        read_cifar(archive, num_classes=10)


def test_a_file_that_is_too_large_is_refused_before_it_is_read(tmp_path: Path) -> None:
    folder = write_cifar(tmp_path / "files", make_cifar(10), num_classes=10, layout="binary")
    os.truncate(folder / "data_batch_1.bin", 10**12)  # sparse
    with pytest.raises(DatasetUnavailable, match="more than any file of CIFAR"):
        read_cifar(folder, num_classes=10)
    info = tarfile.TarInfo("train.bin")
    info.size = 10**11
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(info.tobuf()))
    with pytest.raises(DatasetUnavailable, match="more than any file of CIFAR"):
        read_cifar(tmp_path / "x.tar.gz", num_classes=100)


def test_links_and_folders_in_an_archive_are_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for kind, target in ((tarfile.SYMTYPE, "/etc/passwd"), (tarfile.DIRTYPE, ""), (tarfile.LNKTYPE, "x")):
            info = tarfile.TarInfo("files/train.bin")
            info.type, info.linkname = kind, target
            archive.addfile(info)
    with pytest.raises(DatasetUnavailable, match=r"has no train\.bin, test\.bin"):
        read_cifar(tmp_path / "x.tar.gz", num_classes=100)


def test_a_sparse_file_in_an_archive_is_passed_over(tmp_path: Path) -> None:
    """It says that it is mostly holes, which no bytes of the archive stand for."""
    info = tarfile.TarInfo("train.bin")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 50_000_000  # the size with its holes
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(header)))
    with pytest.raises(DatasetUnavailable, match=r"has no train\.bin"):
        read_cifar(tmp_path / "x.tar.gz", num_classes=100)


#: The standard library warns of a damaged text before the reader refuses the opcode that holds it.
escapes_may_be_damaged = pytest.mark.filterwarnings("ignore:invalid (octal )?escape sequence:DeprecationWarning")
damage = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=4)


def spoil(content: bytes, changes: list[tuple[int, int]], keep: float) -> bytes:
    spoiled = bytearray(content)
    for place, value in changes:
        spoiled[place % len(spoiled)] = value
    return bytes(spoiled[: round(len(spoiled) * keep)])


@escapes_may_be_damaged
@given(changes=damage, keep=st.floats(0, 1))
@settings(max_examples=300, deadline=None)
def test_a_spoiled_pickle_is_read_or_refused(changes: list[tuple[int, int]], keep: float) -> None:
    content = python2_pickle(ROWS[:, :16], b"labels", [1, 2])
    try:
        read_pickle(spoil(content, changes, keep))
    except PickleRefused:
        return


@escapes_may_be_damaged
@example(opcodes=[b"S"], tail=b"'\\u'\n")
@given(opcodes=st.lists(st.sampled_from([bytes([code]) for code in range(256)]), max_size=40), tail=st.binary())
@settings(max_examples=300, deadline=None)
def test_any_opcodes_are_read_or_refused(opcodes: list[bytes], tail: bytes) -> None:
    try:
        read_pickle(b"\x80\x02" + b"".join(opcodes) + tail + b".")
    except PickleRefused:
        return


@escapes_may_be_damaged
@given(changes=damage, keep=st.floats(0, 1), layout=st.sampled_from(["binary", "python"]), zipped=st.booleans())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_spoiled_archive_is_read_or_refused(
    tmp_path: Path, changes: list[tuple[int, int]], keep: float, layout: str, zipped: bool
) -> None:
    """With the damage in the tar itself, or in its compressed bytes."""
    archive = tmp_path / f"{layout}.tar.gz"
    if not archive.exists():
        files = write_cifar(tmp_path / layout, make_cifar(100, per_batch=1), num_classes=100, layout=layout)
        pack_tar(files, archive)
    whole = archive.read_bytes()
    spoiled = tmp_path / "spoiled.tar.gz"
    if zipped:
        spoiled.write_bytes(spoil(whole, changes, keep))
    else:
        spoiled.write_bytes(gzip.compress(spoil(gzip.decompress(whole), changes, keep), 1))
    try:
        read_cifar(spoiled, num_classes=100)
    except DatasetUnavailable:
        return


def test_a_pickle_that_says_it_is_longer_than_it_is_is_refused() -> None:
    content = python2_pickle(ROWS, b"labels", [1, 2])
    longer = content.replace(struct.pack("<i", ROWS.size), struct.pack("<i", 2**31 - 1))
    with pytest.raises(PickleRefused, match="damaged"):
        read_pickle(longer)
