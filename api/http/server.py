"""The HTTP server: uvicorn with limits on clients.

It limits what clients send and hold, reports that it drains, and disconnects clients that do not read their answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import socket
from collections import Counter
from functools import partial

import uvicorn
from fastapi import FastAPI

from api.access.gate import Gate
from api.access.rate_limit import RateLimiter
from api.http.admission import Admission, Door
from api.http.connections import Connection
from api.http.quick_route import Answerer
from trainyard.settings import Settings

log = logging.getLogger(__name__)

TAKEN_WITHIN_S = 15.0
LOOK_S = 0.5  # between two looks for requests that take too long to arrive
RESERVED_FILES = 200  # of the open-file limit: the database, packs and checkpoints that are read, logs
SILENT_S = 10.0  # that a request which is half there may pause while we stop; half of the grace
CUT_AFTER_S = 3.0  # while we stop: well within the grace that a process gets


class Server(uvicorn.Server):
    """Serves an app until it is told to stop."""

    def __init__(
        self, config: uvicorn.Config, app: FastAPI, door: Door, *, taken_within_s: float = TAKEN_WITHIN_S
    ) -> None:
        """Make a server.

        Args:
            config: uvicorn's.
            app: with its services in its state, once it has started.
            door: what clients may send and hold.
            taken_within_s: a connection whose client acknowledges none of the bytes sent for so long is cut by the
                kernel (Linux); else it, and what it was to be sent, would stay for good.
        """
        super().__init__(config)
        self._app, self._door, self._taken_within_s = app, door, taken_within_s
        self._looking: asyncio.Task[None] | None = None

    def handle_exit(self, sig: int, frame: object) -> None:
        """Report on `/readyz` that the process drains, as soon as it is told to stop."""
        if (services := getattr(self._app.state, "services", None)) is not None:
            services.draining = True
        super().handle_exit(sig, frame)  # type: ignore[arg-type]  # a frame, as `signal` passes it

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. Options of a listening socket apply to each of its connections."""
        self.config.http_protocol_class = partial(Connection, door=self._door)  # type: ignore[assignment]  # only called
        await super().startup(sockets)
        self._looking = asyncio.create_task(self._look_for_late())
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            return
        for listener in [one for server in self.servers for one in server.sockets]:
            with socket.socket(fileno=os.dup(listener.fileno())) as same:
                same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._taken_within_s * 1000))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. Neither a client that reads nothing nor one that has not sent its request delays the stop."""
        cut = asyncio.create_task(self._cut_stuck())
        await super().shutdown(sockets)
        for task in filter(None, (cut, self._looking)):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _look_for_late(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            now = asyncio.get_running_loop().time()
            for connection in self._connections():
                connection.check_time(now)
            self._count_answers()

    def _count_answers(self) -> None:
        """Let the metrics know of the answers that were given before the app was called."""
        answered, self._door.answered = self._door.answered, Counter()
        for labels, count in answered.items():
            self._app.state.services.metrics.answered_at_head(labels, count)

    async def _cut_stuck(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(CUT_AFTER_S)
        while True:
            since = loop.time() - SILENT_S if loop.time() >= began + SILENT_S else 0.0
            stuck = [one for one in self._connections() if one.is_stuck(since)]
            for connection in stuck:
                connection.transport.abort()
            if stuck:
                log.info("disconnected %d clients that read no answer or sent no more of their requests", len(stuck))
            await asyncio.sleep(LOOK_S)

    def _connections(self) -> list[Connection]:
        return [connection for connection in self.server_state.connections if isinstance(connection, Connection)]


def build_door(
    settings: Settings, gate: Gate, limiter: RateLimiter | None = None, answerer: Answerer | None = None
) -> Door:
    """Return what clients of an API with these settings may send and hold, within the open-file limit."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    admission = Admission(
        max_predictions=settings.max_queued_predictions,
        max_bytes=settings.max_upload_bytes_at_once,
        largest_bytes=max(settings.max_upload_bytes, settings.max_body_bytes),
        max_streams=settings.max_uploads_at_once,
    )
    most = max(1, min(settings.max_connections, files - RESERVED_FILES))
    return Door(admission, gate, max_connections=most, limiter=limiter, answerer=answerer)


def raise_file_limit() -> None:
    """Raise this process's limit of open files to what the system allows; the usual 1,024 is for a shell."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
