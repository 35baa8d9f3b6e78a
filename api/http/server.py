"""The HTTP server: uvicorn, which reports that it drains and drops clients that do not read their answer."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket

import uvicorn
from fastapi import FastAPI

log = logging.getLogger(__name__)

TAKEN_WITHIN_S = 15.0
CUT_AFTER_S = 3.0  # while we stop: well within the grace that a process gets


class Server(uvicorn.Server):
    """Serves an app until it is told to stop."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, *, taken_within_s: float = TAKEN_WITHIN_S) -> None:
        """Make a server.

        Args:
            config: uvicorn's.
            app: with its services in its state, once it has started.
            taken_within_s: a connection whose client acknowledges none of the bytes sent for so long is cut by the
                kernel (Linux); else it, and what it was to be sent, would stay for good.
        """
        super().__init__(config)
        self._app, self._taken_within_s = app, taken_within_s

    def handle_exit(self, sig: int, frame: object) -> None:
        """Report on `/readyz` that the process drains, from the moment that it is told to stop."""
        if (services := getattr(self._app.state, "services", None)) is not None:
            services.draining = True
        super().handle_exit(sig, frame)  # type: ignore[arg-type]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. What is set on a listening socket holds for each of its connections."""
        await super().startup(sockets)
        if not hasattr(socket, "TCP_USER_TIMEOUT"):
            return
        for listener in [one for server in self.servers for one in server.sockets]:
            with socket.socket(fileno=os.dup(listener.fileno())) as same:
                same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(self._taken_within_s * 1000))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn. Who takes nothing holds up no stop."""
        cut = asyncio.create_task(self._cut_stuck())
        await super().shutdown(sockets)
        cut.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cut

    async def _cut_stuck(self) -> None:
        await asyncio.sleep(CUT_AFTER_S)
        flows = {connection: getattr(connection, "flow", None) for connection in self.server_state.connections}
        stuck = [connection for connection, flow in flows.items() if flow is not None and flow.write_paused]
        for connection in stuck:
            connection.transport.abort()
        if stuck:
            log.info("%d clients took nothing of their answers: cut", len(stuck))
