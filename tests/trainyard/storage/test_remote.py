"""Objects by fsspec: what is tried again, and what is said of a store that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.object_store import BUCKET, FaultyFilesystem, ObjectServer, connect
from trainyard.errors import StorageUnavailable
from trainyard.storage.remote import RemoteFiles


def refuse(_: Callable[[], Any]) -> Any:
    raise ConnectionRefusedError(111, "refused")


def time_out(_: Callable[[], Any]) -> Any:
    raise TimeoutError("no byte came")


def test_objects_are_written_read_listed_and_removed(files: RemoteFiles, tmp_path: Path) -> None:
    (tmp_path / "local").write_bytes(b"from a file")
    files.write("a/one", b"1")
    files.upload(tmp_path / "local", "a/b/two")
    assert files.read("a/b/two") == b"from a file"
    assert files.read("a/b/two", 5, 100) == b"a file"
    assert [(file.path, file.size_bytes) for file in files.list_below("a")] == [("a/b/two", 11), ("a/one", 1)]
    assert abs(files.list_below("a")[0].modified_at - time.time()) < 60
    assert files.list_names("a") == ["b", "one"]
    files.remove(["a/one", "a/b/two", "a/none"])
    assert (files.list_below("a"), files.list_names("a")) == ([], [])
    with pytest.raises(FileNotFoundError):
        files.read("a/one")


def test_a_store_that_refuses_for_a_moment_is_tried_again(files: RemoteFiles, filesystem: FaultyFilesystem) -> None:
    filesystem.faults = [refuse, refuse]
    files.write("x", b"1")
    assert files.read("x") == b"1"
    assert filesystem.calls == ["pipe_file"] * 3 + ["cat_file"]


def test_a_store_that_goes_on_refusing_is_unavailable_and_not_empty(
    files: RemoteFiles, filesystem: FaultyFilesystem
) -> None:
    filesystem.faults = [refuse] * 3
    with pytest.raises(StorageUnavailable, match="refused"):
        files.list_below("x")
    assert files.list_below("x") == [], "it is back"


def test_a_call_without_an_answer_is_made_once(files: RemoteFiles, filesystem: FaultyFilesystem) -> None:
    """It has cost its whole time already."""
    filesystem.faults = [time_out] * 3
    with pytest.raises(StorageUnavailable, match="no byte came"):
        files.read("x")
    assert len(filesystem.calls) == 1


def test_while_the_store_is_away_one_caller_looks_and_the_others_are_told_at_once(
    files: RemoteFiles, filesystem: FaultyFilesystem
) -> None:
    filesystem.faults = [time_out]
    with pytest.raises(StorageUnavailable):
        files.read("x")
    may_go, looks = threading.Event(), threading.Event()

    def hang(_: Callable[[], Any]) -> Any:
        looks.set()
        may_go.wait(10)
        raise TimeoutError

    filesystem.faults = [hang]

    def look() -> None:
        with pytest.raises(StorageUnavailable):
            files.read("x")

    first = threading.Thread(target=look)
    first.start()
    assert looks.wait(10)
    calls = len(filesystem.calls)
    with pytest.raises(StorageUnavailable, match="just failed"):
        files.read("x")
    assert len(filesystem.calls) == calls
    may_go.set()
    first.join()


def test_a_bucket_that_is_not_there_and_a_wrong_key(server: ObjectServer, tmp_path: Path) -> None:
    files = RemoteFiles(connect(server.settings(tmp_path)), "no-such-bucket/x", sleep=lambda _: None)
    with pytest.raises(FileNotFoundError):
        files.read("x")
    with pytest.raises((FileNotFoundError, StorageUnavailable)):
        files.write("x", b"1")


def test_a_server_that_is_frozen_costs_its_time_limit_once(server: ObjectServer, tmp_path: Path) -> None:
    impatient = connect(server.settings(tmp_path, storage_timeout_s=2))
    files = RemoteFiles(impatient, f"{BUCKET}/frozen", sleep=lambda _: None)
    files.write("x", b"1")
    server.freeze()
    try:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            files.read("x")
        assert time.monotonic() - began < 10
    finally:
        server.wake()
    assert _eventually(lambda: files.read("x")) == b"1"


def test_no_key_is_in_any_message(server: ObjectServer, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = server.settings(tmp_path)
    settings.storage_endpoint = "http://127.0.0.1:9"
    files = RemoteFiles(connect(settings), BUCKET, sleep=lambda _: None)
    with pytest.raises(StorageUnavailable) as caught:
        files.read("x")
    assert "test-secret" not in f"{caught.value} {caught.value.__cause__} {caplog.text} {settings}"


def _eventually(act: Callable[[], bytes]) -> bytes:
    for _ in range(100):
        try:
            return act()
        except StorageUnavailable:
            time.sleep(0.1)
    return act()
