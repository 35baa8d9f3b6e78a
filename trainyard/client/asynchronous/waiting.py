"""Waits and blocking calls, for the client whose calls are awaited. `synchronous/waiting.py` is the other one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import ParamSpec, TypeAlias, TypeVar

import anyio
import anyio.to_thread

Given = ParamSpec("Given")
Value = TypeVar("Value")
Sleep: TypeAlias = Callable[[float], Awaitable[None]]


async def sleep(seconds: float) -> None:
    """Wait."""
    await anyio.sleep(seconds)


async def run_blocking(call: Callable[Given, Value], *args: Given.args, **kw: Given.kwargs) -> Value:
    """Run in a thread what may wait for a disk."""
    return await anyio.to_thread.run_sync(lambda: call(*args, **kw))


async def iterate(items: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what an iterator gives that may wait for a disk."""
    while (item := await anyio.to_thread.run_sync(next, items, None)) is not None:
        yield item
