"""A FIFO, a link, a socket or a folder in the place of a file is refused at once, wherever a file of ours is read."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from alexnet_core.data.pack import open_whole
from alexnet_core.data.published.builtin import prepare
from alexnet_core.errors import CoreError
from alexnet_core.layout import MANIFEST
from alexnet_core.network.checkpoint import load_checkpoint, save_checkpoint
from alexnet_core.network.checkpoint_files import verify_checkpoint
from alexnet_core.regular_files import NotRegular, open_regular, read_regular
from tests.alexnet_core.networks import NARROW, make_checkpoint

WITHIN_S = 20


def fifo(path: Path, aside: Path) -> None:
    os.mkfifo(path)


def link(path: Path, aside: Path) -> None:
    path.symlink_to(aside)


def dangling(path: Path, aside: Path) -> None:
    path.symlink_to(aside / "nothing")


def folder(path: Path, aside: Path) -> None:
    path.mkdir()


def unix_socket(path: Path, aside: Path) -> None:
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's name is short
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


IMPOSTORS = [fifo, link, dangling, folder, unix_socket]
Impostor = Callable[[Path, Path], None]


def put_in_place(path: Path, impostor: Impostor) -> None:
    """Something else at a file's place; the file itself lies beside its folder, for a link to lead to."""
    aside = path.parent.parent / f"aside-{path.name.replace('tfevents', 'kept')}"
    shutil.move(path, aside)
    impostor(path, aside)


def within_time(call: Callable[[], object]) -> BaseException | None:
    """What a call raises; it must return soon, whatever it opens."""
    caught: list[BaseException] = []

    def run() -> None:
        try:
            call()
        except BaseException as exc:
            caught.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WITHIN_S)
    assert not thread.is_alive(), "it hangs"
    return caught[0] if caught else None


def test_a_file_is_read_also_through_a_linked_folder(tmp_path: Path) -> None:
    (tmp_path / "real" / "state").mkdir(parents=True)
    (tmp_path / "real" / "state" / "file").write_bytes(b"content")
    (tmp_path / "mounted").symlink_to(tmp_path / "real")
    assert read_regular(tmp_path / "mounted", "state/file") == b"content"
    with open_regular(tmp_path / "real" / "state", "file") as file:
        assert file.read(3) == b"con"
        assert not os.get_inheritable(file.fileno())
    with pytest.raises(FileNotFoundError) as caught:
        read_regular(tmp_path / "real", "state/nothing")
    assert caught.value.filename == str(tmp_path / "real" / "state" / "nothing")
    assert not isinstance(caught.value, NotRegular)


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    os.mkfifo(tmp_path / "state" / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for name in ("state/fifo", "state/nothing", "nothing/x", "state"):
        with pytest.raises(FileNotFoundError):
            open_regular(tmp_path, name)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("impostor", IMPOSTORS)
def test_what_is_no_file_is_not_there(tmp_path: Path, impostor: Impostor) -> None:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    path.write_bytes(b"secret")
    put_in_place(path, impostor)
    assert isinstance(within_time(lambda: read_regular(path.parent, "file")), NotRegular)


def test_no_folder_on_the_way_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_bytes(b"secret")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "state").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotRegular):
        read_regular(tmp_path / "folder", "state/file")


@pytest.mark.parametrize("impostor", IMPOSTORS)
def test_no_checkpoint_is_read_with_something_else_among_its_files(tmp_path: Path, impostor: Impostor) -> None:
    made = make_checkpoint("quick", channels=1, **NARROW)
    saved = save_checkpoint(replace(made, path=tmp_path / "checkpoint", state={}, state_tensors={})).path
    names = sorted(path.relative_to(saved).as_posix() for path in saved.rglob("*") if path.is_file())
    assert MANIFEST in names
    assert any(name.startswith("state/") for name in names)
    load_checkpoint(saved, state=True)
    for name in names:
        copy = tmp_path / name.replace("/", "-") / "checkpoint"
        shutil.copytree(saved, copy)
        put_in_place(copy / name, impostor)
        for read in (load_checkpoint, verify_checkpoint):
            raised = within_time(partial(read, copy, state=True))
            assert isinstance(raised, CoreError), (name, raised)


@pytest.mark.parametrize("impostor", IMPOSTORS)
def test_no_pack_is_read_with_something_else_among_its_files(tmp_path: Path, impostor: Impostor) -> None:
    pack = prepare("digits", source_dir=None, target_dir=tmp_path / "digits")
    for name in ("pack.json", "images.npy", "labels.npy", "split.npy"):
        copy = tmp_path / name / "pack"
        shutil.copytree(pack.path, copy)
        put_in_place(copy / name, impostor)
        raised = within_time(partial(open_whole, copy))
        assert isinstance(raised, CoreError), (name, raised)
