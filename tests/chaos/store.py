"""The object store of a storm: a SeaweedFS that can be killed and frozen, behind a gate that refuses and delays.

A killed store comes back with what it has acknowledged. The yard knows the gate alone; the verdict at the end reads
from the store itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Coroutine
from enum import Enum, auto
from pathlib import Path
from typing import Any

from tests.object_store import DurableObjectServer, connect
from trainyard.launch.queue_server import free_port
from trainyard.storage.remote import RemoteFiles

SLOW_S = 1.0  # before each piece of an answer; less than the yard waits for one
NAMES = {f"storage_{name}" for name in ("url", "endpoint", "region", "access_key", "secret_key")}
_PIECE_BYTES = 64 << 10
BUSY_BODY = (
    b"<?xml version='1.0'?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)
BUSY_HEAD = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/xml\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n" % len(BUSY_BODY)
)


class Mode(Enum):
    """What a gate does with connections."""

    OPEN = auto()
    REFUSING = auto()  #: nobody listens
    SLOW = auto()  #: each piece of an answer comes late
    BUSY = auto()  #: every request is answered with 503


class Gate:
    """A port of this machine that leads to another. A change of its mode cuts all connections."""

    def __init__(self, target_port: int) -> None:
        self.port, self._target_port = free_port(), target_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._mode = Mode.OPEN
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gate", daemon=True)
        self._thread.start()
        self.set(Mode.OPEN)

    def set(self, mode: Mode) -> None:
        """Change what happens to connections, from now on."""
        self._do(self._set(mode))

    def close(self) -> None:
        self.set(Mode.REFUSING)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _set(self, mode: Mode) -> None:
        self._mode = mode
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if mode is not Mode.REFUSING:
            self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                await (self._refuse(reader, writer) if self._mode is Mode.BUSY else self._pass_on(reader, writer))
        except asyncio.CancelledError:
            pass  # the mode has changed: the connection is cut
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _refuse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(BUSY_HEAD if head.startswith(b"HEAD ") else BUSY_HEAD + BUSY_BODY)
        await writer.drain()
        while await asyncio.wait_for(reader.read(_PIECE_BYTES), 5):
            pass  # a body that comes all the same; closing now would take the answer away

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(self._copy(reader, store_writer, 0))
                both.create_task(self._copy(store_reader, writer, SLOW_S if self._mode is Mode.SLOW else 0))
        except* OSError:
            pass  # one of the two ended the connection
        finally:
            store_writer.transport.abort()

    @staticmethod
    async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter, delay_s: float) -> None:
        while piece := await source.read(_PIECE_BYTES):
            await asyncio.sleep(delay_s)
            target.write(piece)
            await target.drain()
        target.write_eof()


class Store:
    """A store with its gate. One fault at a time, each for some seconds; `tick` ends it."""

    def __init__(self, folder: Path) -> None:
        self.server = DurableObjectServer(folder)
        self.server.start()
        self.gate = Gate(self.server.port)
        self.changed_at: list[float] = []  #: when a fault began or ended, in seconds since 1970
        self._until: float | None = None
        self._is_dead = False

    def settings(self) -> dict[str, Any]:
        """Return the settings of a yard that uses the store directly."""
        every = self.server.settings(Path())
        return {name: getattr(every, name) for name in type(every).model_fields if name in NAMES}

    def list_folders(self, key: str) -> set[str]:
        """Return the names below a key that have objects. SeaweedFS goes on listing names that have none any more.

        Raises:
            StorageUnavailable: it does not answer.
        """
        settings = self.server.settings(Path())
        files = RemoteFiles(connect(settings), str(settings.storage_url).removeprefix("s3://"))
        return {file.path.removeprefix(f"{key}/").partition("/")[0] for file in files.list_below(key)}

    def tick(self) -> None:
        """End a fault whose time is over."""
        if self._until is None or time.monotonic() < self._until:
            return
        if self._is_dead:
            self._is_dead = False
            self.server.launch()
        self.server.wake()
        self.gate.set(Mode.OPEN)
        self._until = None
        self.changed_at.append(time.time())

    def close_gate(self, mode: Mode, seconds: float) -> bool:
        """Let the gate refuse, delay or answer 503."""
        if not self._begin(seconds):
            return False
        self.gate.set(mode)
        return True

    def freeze(self, seconds: float) -> bool:
        """Stop the store's process; connections stay open, and nobody answers."""
        if not self._begin(seconds):
            return False
        self.server.freeze()
        return True

    def kill(self, seconds: float) -> bool:
        """Kill the store's process; what it has acknowledged is in its folder."""
        if not self._begin(seconds):
            return False
        self.server.kill()
        self._is_dead = True
        return True

    def stop(self) -> None:
        self.gate.close()
        self.server.stop()

    def _begin(self, seconds: float) -> bool:
        if self._until is not None:
            return False
        self._until = time.monotonic() + seconds
        self.changed_at.append(time.time())
        return True
