"""The client's method that follows a whole yard."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
from httpx_sse import aconnect_sse

from trainyard.client.asynchronous.connection import AsyncConnection
from trainyard.client.asynchronous.waiting import sleep
from trainyard.client.errors import ApiError, check
from trainyard.client.yard_events import YardEvent, read_yard_event

_COME_BACK_S = 0.2  # to a stream that was cut off
_SILENT_S = 20.0  # after which it counts as cut off: a tick comes every five


class AsyncYardEventMethods(AsyncConnection):
    """A part of `AsyncClient`."""

    async def iter_yard_events(self, *, after: int | None = None, ticks: bool = False) -> AsyncIterator[YardEvent]:
        """Yield what changes on the yard for you, without end: jobs, datasets, checkpoints, workers.

        If the stream is cut off, it reconnects by itself: numbered events come in their order, without a gap or a
        repetition. After a `reset` some were missed, and what they told of must be read anew.

        Args:
            after: the number of the last event that you know; None: from now on.
            ticks: yield the `tick` too that comes at once and every five seconds. What is read after the first one and
                then followed misses nothing.

        Raises:
            ApiError: the yard refuses it, or can't answer when the stream is begun.
            httpx.TransportError: the yard can't be reached when the stream is begun.
        """
        known, has_begun = after, False
        timeout = httpx.Timeout(self._http.timeout.connect, read=_SILENT_S)
        while True:
            headers = {} if known is None else {"Last-Event-ID": str(known)}
            wait_s = _COME_BACK_S
            try:
                async with aconnect_sse(self._http, "GET", "/events", headers=headers, timeout=timeout) as stream:
                    if stream.response.status_code >= 400:
                        await stream.response.aread()
                        check(stream.response)
                    has_begun = True
                    async for message in stream.aiter_sse():
                        number = int(message.id) if message.id and message.id != str(known) else None
                        known = known if number is None else number
                        if ticks or message.event != "tick":
                            yield read_yard_event(message.event, number, message.json())
            except httpx.TransportError:
                if not has_begun:
                    raise
            except ApiError as exc:
                if not has_begun or not exc.may_pass:
                    raise
                wait_s = exc.retry_after_s or wait_s
            await sleep(wait_s)
