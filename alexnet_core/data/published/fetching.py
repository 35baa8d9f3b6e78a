"""Downloads published files with torchvision into a temporary folder. Loads torch."""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Literal

from alexnet_core.durable import is_disk_full
from alexnet_core.errors import DatasetUnavailable

_SILENCE_S = 30.0  # of a server, after which it counts as out of reach


@contextlib.contextmanager
def fetched_mnist(name: Literal["mnist", "fashion-mnist"]) -> Iterator[Path]:
    """Download the four IDX files into a folder.

    Raises:
        DatasetUnavailable: they can't be fetched.
        OSError: the disk is full.
    """
    with _fetching(name) as folder:
        from torchvision.datasets import MNIST, FashionMNIST

        kind = MNIST if name == "mnist" else FashionMNIST
        with _translated(name):
            kind(root=folder, download=True)
        yield folder / kind.__name__ / "raw"


@contextlib.contextmanager
def fetched_cifar(name: Literal["cifar10", "cifar100"]) -> Iterator[Path]:
    """Download the published .tar.gz and check its checksum. It is not unpacked: torchvision would unpickle it.

    Raises:
        DatasetUnavailable: it can't be fetched.
        OSError: the disk is full.
    """
    with _fetching(name) as folder:
        from torchvision.datasets import CIFAR10, CIFAR100
        from torchvision.datasets.utils import download_url

        kind = CIFAR10 if name == "cifar10" else CIFAR100
        with _translated(name):
            download_url(kind.url, str(folder), kind.filename, kind.tgz_md5)
        yield folder / kind.filename


@contextlib.contextmanager
def _fetching(name: str) -> Iterator[Path]:
    timeout_s = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SILENCE_S)  # torchvision sets none
    try:
        with tempfile.TemporaryDirectory(prefix="trainyard-fetch-") as folder:
            yield Path(folder)
    except ImportError as exc:
        raise _nowhere(name, exc) from exc
    finally:
        socket.setdefaulttimeout(timeout_s)


@contextlib.contextmanager
def _translated(name: str) -> Iterator[None]:
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for answers
            yield
    except (OSError, RuntimeError, EOFError, HTTPException) as exc:  # what a broken connection ends in
        if is_disk_full(exc):
            raise
        raise _nowhere(name, exc) from exc


def _nowhere(name: str, exc: Exception) -> DatasetUnavailable:
    return DatasetUnavailable(
        f"{name} is not on this machine and could not be fetched ({exc}). Put its published files into the sub-folder "
        f"`{name}` of the folder of dataset sources (TRAINYARD_DATASETS_DIR), or name their folder with --source."
    )
