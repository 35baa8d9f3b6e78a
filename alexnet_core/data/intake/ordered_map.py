"""Runs a function over many items in threads, with results in order. Torch-free."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice
from typing import TypeVar

_WINDOW = 4  # items a thread that are under way

T = TypeVar("T")
R = TypeVar("R")


def map_in_order(function: Callable[[T], R], items: Iterable[T], threads: int, *, at_once: int = 1) -> Iterator[R]:
    """Run `map` in threads, with only a few results waiting at a time.

    Args:
        function: what to run.
        items: what to run it on.
        threads: that run it.
        at_once: items that a thread takes at a time. Taking them costs as much as some microseconds of work.
    """
    return chain.from_iterable(
        map_batches(lambda batch: [function(item) for item in batch], items, threads, at_once=at_once)
    )


def map_batches(function: Callable[[list[T]], R], items: Iterable[T], threads: int, *, at_once: int) -> Iterator[R]:
    """Run a function of several items in threads, and yield its results in order; see `map_in_order`."""
    with ThreadPoolExecutor(threads, thread_name_prefix="intake") as pool:
        window: deque[Future[R]] = deque()
        most = max(2, _WINDOW // at_once) * threads
        iterator = iter(items)
        try:
            while batch := list(islice(iterator, at_once)):
                window.append(pool.submit(function, batch))
                if len(window) >= most:
                    yield window.popleft().result()
            while window:
                yield window.popleft().result()
        finally:
            for future in window:
                future.cancel()
