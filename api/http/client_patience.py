"""How long a client waits for its answer: until it closes the connection, or until a time of its own choice."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Annotated, Any, TypeVar

from fastapi import Header, Request, Response

from api.http.connections import ARRIVED_AT
from trainyard.serving_errors import DeadlineExceeded

T = TypeVar("T")

TimeoutHeader = Annotated[
    int | None,
    Header(
        alias="X-Trainyard-Timeout-Ms",
        ge=1,
        le=600_000,
        description="Milliseconds after which nobody needs the answer any more: then nothing more is computed for it, "
        "and it is 504 `deadline_exceeded`.",
    ),
]


def count_left_ms(request: Request, timeout_ms: int | None) -> float | None:
    """Return how long the client still waits: its time began when the request's headers were there.

    Raises:
        DeadlineExceeded: no longer.
    """
    if timeout_ms is None:
        return None
    now = asyncio.get_running_loop().time()
    left_ms = timeout_ms - 1000 * (now - request.scope.get(ARRIVED_AT, now))
    if left_ms <= 0:
        raise DeadlineExceeded
    return float(left_ms)


async def unless_gone(request: Request, work: Coroutine[Any, Any, T], timeout_ms: float | None = None) -> T | None:
    """Return the result of the work. None: the client closed the connection, and the work was cancelled.

    Raises:
        DeadlineExceeded: it took longer than the client wants to wait; the work was cancelled.
    """
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_wait_until_gone(request))
    try:
        wait_s = None if timeout_ms is None else timeout_ms / 1000
        done, _ = await asyncio.wait({working, leaving}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise DeadlineExceeded
        return await working if working.done() else None
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _wait_until_gone(request: Request) -> None:
    """Return when the client has closed the connection. Its body must have been read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def answer_nobody() -> Response:
    """Return what is answered to a client that has gone."""
    return Response(status_code=499)
