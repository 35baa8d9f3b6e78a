"""Waits of streams for what comes next."""

from __future__ import annotations

import asyncio


async def within(seconds: float, changed: asyncio.Event) -> bool:
    """Wait for an event of the loop; False: it did not come in time."""
    try:
        async with asyncio.timeout(seconds):
            await changed.wait()
    except TimeoutError:
        return False
    return True
