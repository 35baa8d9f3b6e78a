"""Waits and blocking calls, for the client whose calls return when they are done. Written by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeAlias, TypeVar

Given = ParamSpec("Given")
Value = TypeVar("Value")
Sleep: TypeAlias = Callable[[float], None]


def sleep(seconds: float) -> None:
    """Wait."""
    time.sleep(seconds)


def run_blocking(call: Callable[Given, Value], *args: Given.args, **kw: Given.kwargs) -> Value:
    """Run what may wait for a disk."""
    return call(*args, **kw)


def iterate(items: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what an iterator gives that may wait for a disk."""
    yield from items
