"""Lets requests take turns: one image of each request at a time, however many images a request has."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any, Generic, TypeVar

log = logging.getLogger(__name__)

T = TypeVar("T")


class Turn:
    """Identifies one request in the queues in which its images wait."""


class FairQueue(Generic[T]):
    """Waiting items by request. Not safe between threads: its owner has the lock."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Turn, deque[T]] = OrderedDict()  #: the request whose turn it is stands first

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def put(self, turn: Turn, item: T) -> None:
        """Append an item to those of its request, whose turn comes after those that wait already."""
        self._waiting.setdefault(turn, deque()).append(item)

    def take(self, may_go: Callable[[Turn, T], bool] = lambda turn, item: True) -> tuple[Turn, T] | None:
        """Return the next item of the first request in turn whose next one may go. That request then goes last."""
        for turn, items in self._waiting.items():
            if may_go(turn, items[0]):
                item = items.popleft()
                if items:
                    self._waiting.move_to_end(turn)
                else:
                    del self._waiting[turn]
                return turn, item
        return None

    def drain(self) -> Iterator[T]:
        """Remove and return all that waits."""
        while (taken := self.take()) is not None:
            yield taken[1]


class FairPool:
    """Threads that work for requests in turn. A request may use all but one, so that another finds one free.

    Args:
        threads: how many.
        name: theirs.
    """

    def __init__(self, threads: int, name: str) -> None:
        self._most_of_one = max(1, threads - 1)
        self._waiting: FairQueue[tuple[Future[Any], Callable[[], Any]]] = FairQueue()
        self._running: Counter[Turn] = Counter()
        self._changed = threading.Condition()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, turn: Turn, function: Callable[..., T], *args: Any) -> Future[T]:
        """Let a thread call the function. Cancelling the future before that removes it again."""
        future: Future[T] = Future()
        with self._changed:
            if self._stopped:
                future.cancel()
                return future
            self._waiting.put(turn, (future, lambda: function(*args)))
            self._changed.notify()
        return future

    def stop(self) -> None:
        """Finish what has begun, and cancel what waits."""
        with self._changed:
            self._stopped = True
            for future, _ in self._waiting.drain():
                future.cancel()
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            turn, (future, call) = taken
            try:
                if future.set_running_or_notify_cancel():
                    _settle(future, call)
            finally:
                with self._changed:
                    self._running[turn] -= 1
                    if not self._running[turn]:
                        del self._running[turn]
                    self._changed.notify()
            del taken, turn, future, call  # nothing of an image is kept until the next one comes

    def _take(self) -> tuple[Turn, tuple[Future[Any], Callable[[], Any]]] | None:
        with self._changed:
            while True:
                if self._stopped:
                    return None
                if (taken := self._waiting.take(lambda turn, _: self._running[turn] < self._most_of_one)) is not None:
                    self._running[taken[0]] += 1
                    return taken
                self._changed.wait()


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    try:
        result = call()
    except BaseException as exc:
        with contextlib.suppress(Exception):
            future.set_exception(exc)
        del future, call  # else the error, whose traceback has this frame, would keep itself and the image it is about
    else:
        future.set_result(result)
