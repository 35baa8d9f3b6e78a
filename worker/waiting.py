"""Runs slow work in a thread of its own, while the caller goes on sending heartbeats."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AbstractContextManager, ExitStack
from typing import TypeVar

T = TypeVar("T")


def run_beside(work: Callable[[], T], *, while_waiting: Callable[[], None], tick_s: float) -> T:
    """Return or raise what a function does.

    `while_waiting` is called every tick, and what it raises ends the wait.

    If the wait ends early, the function still runs to its end.
    """
    future: Future[T] = Future()

    def body() -> None:
        try:
            future.set_result(work())
        except BaseException as exc:
            future.set_exception(exc)

    threading.Thread(target=body, name="beside", daemon=True).start()
    while True:
        if wait([future], timeout=tick_s).done:
            return future.result()
        while_waiting()


def enter_beside(
    context: AbstractContextManager[T], held: ExitStack, *, while_waiting: Callable[[], None], tick_s: float
) -> T:
    """Enter a context that may take long to enter, and leave it with `held`; see `run_beside`."""
    lock, is_abandoned = threading.Lock(), False

    def enter() -> T:
        with ExitStack() as own:
            value = own.enter_context(context)
            with lock:
                if not is_abandoned:
                    held.push(own.pop_all())
        return value

    try:
        return run_beside(enter, while_waiting=while_waiting, tick_s=tick_s)
    except BaseException:
        with lock:
            is_abandoned = True
        raise
