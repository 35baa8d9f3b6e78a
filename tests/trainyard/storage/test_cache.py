"""Copies by content: bounded, not removed under a reader, whole."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from trainyard.storage.cache import Cache, name_of

SIZES = {"file": 1000}


def fill(folder: Path) -> None:
    (folder / "file").write_bytes(b"x" * 1000)


def use(cache: Cache, name: str, at: int) -> None:
    with cache.holding(SIZES, name, fill) as folder:
        os.utime(folder, (at, at))


def test_the_ones_longest_unused_go_first(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=2500)
    for at, name in enumerate("abc", 1):
        use(cache, name, at)
    cache.sweep()
    assert sorted(os.listdir(tmp_path)) == ["b", "c"]


def test_one_that_is_read_stays_whatever_the_bound(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=1)
    with cache.holding(SIZES, "a", fill) as folder, cache.holding(SIZES, "b", fill):
        assert Cache(tmp_path, max_bytes=1).sweep() == 2000, "in another process, too"
        assert (folder / "file").stat().st_size == 1000
    assert cache.sweep() == 0


def test_a_copy_of_which_a_file_is_gone_or_cut_is_fetched_again(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=10_000)
    use(cache, "a", 1)
    for harm in (lambda path: path.unlink(), lambda path: path.write_bytes(b"x")):
        harm(tmp_path / "a/file")
        with cache.holding(SIZES, "a", fill) as folder:
            assert (folder / "file").stat().st_size == 1000


def test_many_that_want_the_same_copy_fetch_it_once(tmp_path: Path) -> None:
    cache, fetched = Cache(tmp_path, max_bytes=10_000), []

    def fetch(folder: Path) -> None:
        fetched.append(folder)
        fill(folder)

    def hold() -> None:
        with cache.holding(SIZES, "a", fetch) as folder:
            assert (folder / "file").exists()

    threads = [threading.Thread(target=hold) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(fetched) == 1


def test_a_fetch_that_fails_leaves_nothing(tmp_path: Path) -> None:
    cache = Cache(tmp_path, max_bytes=10_000)

    def fail(folder: Path) -> None:
        (folder / "file").write_bytes(b"half")
        raise OSError(28, "no space left on device")

    for _ in range(2):
        with pytest.raises(OSError, match="no space"), cache.holding(SIZES, "a", fail):
            pass
    assert os.listdir(tmp_path) == []


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".tmp-a-1234").mkdir()
    (tmp_path / ".gone-a-1234").mkdir()
    Cache(tmp_path, max_bytes=1).sweep()
    assert os.listdir(tmp_path) == []


def test_files_on_this_disk_become_a_copy_without_their_bytes(tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    fill(tmp_path / "made")
    cache = Cache(tmp_path / "cache", max_bytes=10_000)
    cache.adopt("a", tmp_path / "made", ["file"])
    assert (tmp_path / "cache/a/file").stat().st_ino == (tmp_path / "made/file").stat().st_ino


def test_the_name_tells_the_content() -> None:
    assert name_of({"a": "1", "b": "2"}) == name_of({"b": "2", "a": "1"}) != name_of({"a": "2", "b": "1"})
