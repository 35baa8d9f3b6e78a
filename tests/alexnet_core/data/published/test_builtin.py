"""The built-in datasets, from a folder of sources or fetched."""

from __future__ import annotations

import errno
import json
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alexnet_core.__main__ import main
from alexnet_core.data.published import builtin
from alexnet_core.data.published.builtin import BUILTINS, prepare
from alexnet_core.data.published.idx import read_idx
from alexnet_core.data.published.labelled import LabelledImages
from alexnet_core.errors import DatasetUnavailable
from tests.alexnet_core.published import make_cifar, pack_tar, write_cifar, write_mnist

SHAPES = {"digits": (8, 1), "mnist": (28, 1), "fashion-mnist": (28, 1), "cifar10": (32, 3), "cifar100": (32, 3)}


@pytest.fixture(autouse=True)
def _nothing_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builtin, "_DEBIAN", Path("/nonexistent"))


def expect(monkeypatch: pytest.MonkeyPatch, name: str, data: LabelledImages) -> None:
    """As if that many images had been published."""
    few = replace(BUILTINS[name], num_published=(data.num_train, data.num_test))
    monkeypatch.setitem(BUILTINS, name, few)


def write_source(folder: Path, name: str) -> LabelledImages:
    if name in ("mnist", "fashion-mnist"):
        return write_mnist(folder)
    num_classes = 10 if name == "cifar10" else 100
    data = make_cifar(num_classes, per_batch=20)
    write_cifar(folder, data, num_classes=num_classes, layout="binary")
    return data


def serve(monkeypatch: pytest.MonkeyPatch, fetch: Callable[..., None]) -> None:
    """Put a function in the network's place."""
    monkeypatch.setattr("torchvision.datasets.utils._get_redirect_url", lambda url, **_: url)
    monkeypatch.setattr("torchvision.datasets.utils._urlretrieve", fetch)


def test_every_dataset_says_what_it_is() -> None:
    assert {name: (it.facts.image_px, it.facts.channels) for name, it in BUILTINS.items()} == SHAPES
    assert {name for name, it in BUILTINS.items() if not it.facts.flip_safe} == {"digits", "mnist"}
    assert all(it.facts.name == name and it.facts.num_test == it.num_published[1] for name, it in BUILTINS.items())


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_a_dataset_is_prepared_from_the_folder_of_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    data = write_source(tmp_path / "files", name)
    expect(monkeypatch, name, data)
    arguments = ["--dataset", name, "--target", tmp_path / "pack", "--source", tmp_path / "files"]
    assert main(["prepare", *map(str, arguments)]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["image_px"], answer["channels"]) == SHAPES[name]
    assert answer["num_train"] + answer["num_val"] == data.num_train
    pack = prepare(name, source_dir=tmp_path / "files", target_dir=tmp_path / "pack")
    assert np.array_equal(pack.images, data.images)
    assert np.array_equal(pack.list_indices("test"), np.arange(data.num_train, len(data.labels)))
    assert pack.class_names == BUILTINS[name].facts.class_names


@pytest.mark.parametrize("name", list(BUILTINS))
def test_a_named_folder_without_the_files_is_refused_and_nothing_else_is_taken(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetUnavailable, match=f"{tmp_path} has none of the published files of {name}"):
        prepare(name, source_dir=tmp_path, target_dir=tmp_path / "pack")


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_files_with_fewer_images_than_published_are_refused(tmp_path: Path, name: str) -> None:
    write_source(tmp_path / "files", name)
    with pytest.raises(DatasetUnavailable, match="not the published"):
        prepare(name, source_dir=tmp_path / "files", target_dir=tmp_path / "pack")
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100"])
def test_without_a_network_the_message_says_where_to_put_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    def fail(*_: object, **__: Any) -> None:
        raise URLError("no network")

    serve(monkeypatch, fail)
    assert main(["prepare", "--dataset", name, "--target", str(tmp_path / "pack")]) == 1
    [line] = capsys.readouterr().out.splitlines()
    error = json.loads(line)["error"]
    assert error["code"] == "dataset_unavailable"
    assert f"`{name}` of the folder of dataset sources (TRAINYARD_DATASETS_DIR)" in error["message"]
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", ["mnist", "cifar100"])
def test_a_fetched_dataset_is_prepared_without_unpickling(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    data = write_source(tmp_path / "files", name)
    if name == "cifar100":
        shutil.rmtree(tmp_path / "files")
        write_cifar(tmp_path / "files", data, num_classes=100, layout="python")
    expect(monkeypatch, name, data)

    def copy(url: str, target: object, *_: object, **__: Any) -> None:
        assert socket.getdefaulttimeout()
        if name == "cifar100":
            pack_tar(tmp_path / "files", Path(str(target)))
        else:
            shutil.copyfile(tmp_path / "files" / url.rpartition("/")[2], str(target))

    serve(monkeypatch, copy)
    monkeypatch.setattr("torchvision.datasets.utils.check_integrity", lambda path, _md5=None: Path(path).is_file())
    monkeypatch.setattr("torchvision.datasets.mnist.check_integrity", lambda path, _md5=None: Path(path).is_file())
    monkeypatch.setattr("pickle.load", None)
    pack = prepare(name, source_dir=None, target_dir=tmp_path / "pack")
    assert np.array_equal(pack.images, data.images)


def test_mnists_files_are_found_where_torchvision_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clothes, digits = write_mnist(tmp_path / "FashionMNIST/raw"), write_mnist(tmp_path / "MNIST/raw", seed=1)
    for name, data in (("fashion-mnist", clothes), ("mnist", digits)):
        expect(monkeypatch, name, data)
        pack = prepare(name, source_dir=tmp_path, target_dir=tmp_path / "packs" / name)
        assert np.array_equal(pack.images, data.images)


def test_idx_files_that_do_not_fit_each_other_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path / "other", num_train=20)
    write_mnist(tmp_path / "files")
    shutil.copy(tmp_path / "other" / "train-labels-idx1-ubyte.gz", tmp_path / "files")
    with pytest.raises(DatasetUnavailable, match="don't fit each other"):
        prepare("mnist", source_dir=tmp_path / "files", target_dir=tmp_path / "pack")


@given(content=st.binary(max_size=60), zipped=st.booleans())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_idx_file_is_read_or_refused(tmp_path: Path, content: bytes, zipped: bool) -> None:
    path = tmp_path / "file"
    path.write_bytes((b"\x1f\x8b" if zipped else b"\0\0\x08\x03") + content)
    try:
        read_idx(path, dimensions=3)
    except DatasetUnavailable:
        return


def test_a_disk_that_fills_while_a_dataset_is_fetched_is_no_missing_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    serve(monkeypatch, fail)
    with pytest.raises(OSError, match="No space left"):
        prepare("cifar10", source_dir=None, target_dir=tmp_path / "pack")
