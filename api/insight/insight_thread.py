"""The thread that gives work to the child process: what clients wait for first, then steps of longer work in turn."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from api.insight.child_process import InsightProcess
from trainyard.insight_errors import InsightQueueFull

log = logging.getLogger(__name__)

T = TypeVar("T")

MAX_WAITING = 8
IDLE_S = 120.0  #: after which the child ends: it takes some hundred megabytes
_RETRY_AFTER_S = 3

Step = Callable[[InsightProcess], float | None]


class InsightThread:
    """One thread and its child process. Both are started when they are needed."""

    def __init__(self, process: InsightProcess, *, idle_s: float = IDLE_S, max_waiting: int = MAX_WAITING) -> None:
        self._process, self._idle_s, self._max_waiting = process, idle_s, max_waiting
        self._waiting: deque[tuple[Future[Any], Callable[[InsightProcess], Any]]] = deque()
        self._steps: deque[tuple[float, Step]] = deque()  #: with the moment from which on each may run
        self._changed = threading.Condition()
        self._stopped = False
        self._thread: threading.Thread | None = None

    async def run(self, work: Callable[[InsightProcess], T]) -> T:
        """Do some work before everything that is longer. Cancelling removes it if it has not begun.

        Raises:
            InsightQueueFull: too much is waiting.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._stopped or len(self._waiting) >= self._max_waiting:
                raise InsightQueueFull(retry_after_s=_RETRY_AFTER_S)
            self._waiting.append((future, work))
            self._wake()
        return await asyncio.wrap_future(future)

    def repeat(self, step: Step) -> None:
        """Do longer work in steps, between which others have their turn.

        Args:
            step: returns the seconds to wait until the next step, or None when there is none. What it raises is logged
                and ends it.
        """
        with self._changed:
            if not self._stopped:
                self._steps.append((0.0, step))
                self._wake()

    def close(self) -> None:
        """End the child and the thread. What waits is refused."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._process.interrupt()
        if self._thread is not None:
            self._thread.join(timeout=30)

    def _wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="insight", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while (one := self._take()) is not None:
            one()
        self._process.close()
        with self._changed:
            waiting = list(self._waiting)
            self._waiting.clear()
        for future, _ in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(InsightQueueFull(retry_after_s=_RETRY_AFTER_S))

    def _take(self) -> Callable[[], None] | None:
        """Return what to do next. None: the thread is to end."""
        idle_since = time.monotonic()
        with self._changed:
            while not self._stopped:
                if self._waiting:
                    future, work = self._waiting.popleft()
                    return lambda: self._do(future, work)
                now = time.monotonic()
                if (step := self._next_step(now)) is not None:
                    return lambda: self._do_step(step)
                if now - idle_since >= self._idle_s and self._process.pid is not None:
                    return self._process.close
                self._changed.wait(self._sleep_s(now, idle_since))
        return None

    def _next_step(self, now: float) -> Step | None:
        for _ in range(len(self._steps)):
            due, step = self._steps.popleft()
            if due <= now:
                return step
            self._steps.append((due, step))
        return None

    def _sleep_s(self, now: float, idle_since: float) -> float | None:
        moments = [due for due, _ in self._steps]
        if self._process.pid is not None:
            moments.append(idle_since + self._idle_s)
        return max(0.01, min(moments) - now) if moments else None

    def _do(self, future: Future[Any], work: Callable[[InsightProcess], Any]) -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(work(self._process))
        except BaseException as exc:
            future.set_exception(exc)
            del future, work  # else the error, whose traceback has this frame, would keep itself and what it is about

    def _do_step(self, step: Step) -> None:
        try:
            wait_s = step(self._process)
        except Exception:
            log.exception("a computation for insight failed")
            return
        if wait_s is not None:
            with self._changed:
                self._steps.append((time.monotonic() + wait_s, step))
