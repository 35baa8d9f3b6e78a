"""The engine's process: `python -m api.engine_process PARENT SOCKET`. Started by `api.supervisor`.

It holds the models and computes all predictions, for however many web processes there are. It ends when its standard
input is closed.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path

import uvloop

from alexnet_core import child_processes
from api.bootstrap import prepare_process, read_settings
from api.observability.metrics import Metrics
from api.observability.process_files import ProcessRole, announce
from api.remote.engine_server import EngineServer
from api.serving.engine import Engine
from api.serving.runtime import build_runtime
from trainyard import tracing
from trainyard.database.connection import Database
from trainyard.settings import Settings
from trainyard.storage.opening import open_storage


async def serve(settings: Settings, path: Path) -> None:
    """Serve an engine on a socket until standard input is closed."""
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    await loop.connect_read_pipe(lambda: _EndOfInput(over), sys.stdin)
    tracing.start(settings, "trainyard-engine")
    database, storage = Database(settings.sqlalchemy_url), open_storage(settings)
    runtime = build_runtime(settings)
    engine = Engine(settings, database, storage, runtime, Metrics())
    announce(ProcessRole.ENGINE)
    engine.start()
    try:
        await EngineServer(engine, path).run(over)
    finally:
        await engine.stop()
        storage.close()
        database.close()
        tracing.stop()


class _EndOfInput(asyncio.Protocol):
    def __init__(self, over: asyncio.Event) -> None:
        self._over = over

    def connection_lost(self, exc: Exception | None) -> None:
        self._over.set()


def main(path: Path) -> int:
    """Run the process. Returns 2 if the settings are not valid."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # it ends after the web processes
    settings = read_settings()
    if settings is None:
        return 2
    prepare_process(settings)
    uvloop.run(serve(settings, path))
    return 0


if __name__ == "__main__":
    child_processes.die_with_parent(int(sys.argv[1]))
    sys.exit(main(Path(sys.argv[2])))
