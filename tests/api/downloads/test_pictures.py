from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from api.downloads.pictures import NICENESS, Pictures
from trainyard.errors import TooManyPictures


@pytest.fixture
def pictures() -> Iterator[Pictures]:
    pictures = Pictures(kept=2)
    yield pictures
    pictures.close()


def drawing(log: list[str], name: str, gate: threading.Event | None = None) -> Callable[[], bytes]:
    def draw() -> bytes:
        log.append(name)
        if gate is not None:
            assert gate.wait(10)
        return name.encode()

    return draw


def test_a_picture_is_drawn_once_for_all_who_want_it(pictures: Pictures) -> None:
    log: list[str] = []

    async def want() -> None:
        assert await asyncio.gather(*(pictures.get("a", drawing(log, "a")) for _ in range(50))) == [b"a"] * 50
        assert await pictures.get("a", drawing(log, "a")) == b"a"

    asyncio.run(want())
    assert log == ["a"]


def test_the_longest_unused_picture_goes_first(pictures: Pictures) -> None:
    log: list[str] = []

    async def want() -> None:
        for name in ("a", "b", "a", "c", "a", "b"):
            assert await pictures.get(name, drawing(log, name)) == name.encode()

    asyncio.run(want())
    assert log == ["a", "b", "c", "b"]


def test_a_picture_that_nobody_waits_for_any_more_is_not_drawn(pictures: Pictures) -> None:
    log: list[str] = []
    gate = threading.Event()

    async def want() -> None:
        first = asyncio.create_task(pictures.get("a", drawing(log, "a", gate)))
        left = [asyncio.create_task(pictures.get("b", drawing(log, "b"))) for _ in range(2)]
        await asyncio.sleep(0)
        left[0].cancel()
        await asyncio.sleep(0)
        left[1].cancel()
        again = asyncio.create_task(pictures.get("b", drawing(log, "b again")))
        gone = asyncio.create_task(pictures.get("c", drawing(log, "c")))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.sleep(0.01)  # it has left before the thread is free
        gate.set()
        assert await first == b"a"
        assert await again in {b"b", b"b again"}

    asyncio.run(want())
    assert "c" not in log
    assert len(log) == 2


def test_a_failed_drawing_is_told_and_tried_again(pictures: Pictures) -> None:
    def fail() -> bytes:
        raise OSError("no ink")

    async def want() -> None:
        for _ in range(2):
            with pytest.raises(OSError, match="no ink"):
                await pictures.get("a", fail)
        assert await pictures.get("a", lambda: b"a") == b"a"

    asyncio.run(want())


def test_pictures_are_kept_up_to_their_bytes() -> None:
    pictures, log = Pictures(kept=100, kept_bytes=10), list[str]()

    async def want() -> None:
        for name in ("aaaa", "bbbb", "aaaa", "cc", "dd", "aaaa", "bbbb", "x" * 11, "bbbb"):
            assert await pictures.get(name, drawing(log, name)) == name.encode()

    asyncio.run(want())
    pictures.close()
    assert log == ["aaaa", "bbbb", "cc", "dd", "bbbb", "x" * 11, "bbbb"]


def test_more_pictures_than_may_wait_are_refused_but_not_those_that_are_there() -> None:
    pictures, log, gate = Pictures(threads=2, max_drawing=3), list[str](), threading.Event()

    async def want() -> None:
        await pictures.get("old", drawing(log, "old"))
        names = ("a", "b", "c", "a")
        waiting = [asyncio.create_task(pictures.get(name, drawing(log, name, gate))) for name in names]
        await asyncio.sleep(0)
        with pytest.raises(TooManyPictures):
            await pictures.get("d", drawing(log, "d"))
        assert await pictures.get("old", drawing(log, "old")) == b"old"
        gate.set()
        assert await asyncio.gather(*waiting) == [name.encode() for name in names]
        assert await pictures.get("d", drawing(log, "d")) == b"d"

    asyncio.run(want())
    pictures.close()
    assert sorted(log) == ["a", "b", "c", "d", "old"]


@pytest.mark.skipif(sys.platform != "linux", reason="threads have priorities of their own on Linux only")
def test_pictures_give_way_to_the_other_threads(pictures: Pictures) -> None:
    def draw() -> bytes:
        return str(os.getpriority(os.PRIO_PROCESS, threading.get_native_id())).encode()

    before = os.getpriority(os.PRIO_PROCESS, 0)
    assert int(asyncio.run(pictures.get("a", draw))) == max(before, NICENESS)
    assert os.getpriority(os.PRIO_PROCESS, threading.get_native_id()) == before
