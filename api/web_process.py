"""A web process of the API: `python -m api.web_process PARENT ENGINE_SOCKET LISTENER`. Started by `api.supervisor`."""

from __future__ import annotations

import socket
import sys
from contextlib import suppress
from pathlib import Path

import uvicorn

from alexnet_core import child_processes
from api.bootstrap import prepare_process, read_settings
from api.garbage import collect_nothing, keep_what_is_there

GRACEFUL_S = 20


def serve(engine_socket: Path, listener: socket.socket) -> int:
    """Serve requests until SIGTERM or SIGINT.

    Args:
        engine_socket: where the engine's process listens.
        listener: from which connections are accepted, perhaps by other processes too.
    """
    settings = read_settings()
    if settings is None:
        return 2
    prepare_process(settings)
    collect_nothing()
    from api.app import create_app
    from api.http.server import Server, build_door, raise_file_limit
    from api.remote.engine_client import RemoteEngine

    served = create_app(settings, engine=RemoteEngine(engine_socket, wait_s=settings.model_wait_s))
    config = uvicorn.Config(
        served,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=GRACEFUL_S,
        http="httptools",
        ws="none",
    )
    raise_file_limit()
    keep_what_is_there()
    server = Server(
        config, served, build_door(settings, served.state.gate, served.state.limiter, served.state.answerer)
    )
    with suppress(KeyboardInterrupt):  # raised again by uvicorn once everything is down
        server.run([listener])
    return 0 if server.started else 3


if __name__ == "__main__":
    child_processes.die_with_parent(int(sys.argv[1]))
    sys.exit(serve(Path(sys.argv[2]), socket.socket(fileno=int(sys.argv[3]))))
