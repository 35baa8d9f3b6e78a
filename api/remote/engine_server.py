"""The engine's side of the socket: does what web processes ask for, and tells them whether `latest` can answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from api.remote.calls import get_call
from api.remote.messages import MessageProtocol
from api.remote.plain_messages import pack_answer, unpack_question
from api.serving.interface import PlainAnswer, ServingEngine
from api.serving.refusals import Refusal
from trainyard import tracing
from trainyard.errors import ServiceError

log = logging.getLogger(__name__)

STATE_EVERY_S = 0.1
LOOK_AGAIN_S = 0.01  # whether plain predictions are answered, before the server ends


class EngineServer:
    """Serves an engine on a socket in the file system."""

    def __init__(self, engine: ServingEngine, path: Path) -> None:
        self.engine, self._path = engine, path
        self._clients: set[_Client] = set()
        self._running: set[asyncio.Task[None]] = set()

    async def run(self, until: asyncio.Event) -> None:
        """Serve until the event; what was asked for by then is still answered."""
        loop = asyncio.get_running_loop()
        self._path.unlink(missing_ok=True)  # of the process before this one
        server = await loop.create_unix_server(self._accept, str(self._path))
        telling = loop.create_task(self._tell_state())
        try:
            await until.wait()
        finally:
            server.close()
            telling.cancel()
        if self._running:
            await asyncio.wait(self._running)
        while any(client.is_asking_plainly for client in self._clients):
            await asyncio.sleep(LOOK_AGAIN_S)
        self.drop_clients()

    def drop_clients(self) -> None:
        """Close the connections of all web processes."""
        for client in [*self._clients]:
            client.close()

    def _accept(self) -> _Client:
        client = _Client(self)
        self._clients.add(client)
        return client

    async def _tell_state(self) -> None:
        told = None
        while True:
            if (state := self.engine.model_state) != told:
                told = state
                for client in self._clients:
                    client.send({"state": state})
            await asyncio.sleep(STATE_EVERY_S)

    def greet(self, client: _Client) -> None:
        """Tell a web process that has just connected what state the engine is in."""
        client.send({"state": self.engine.model_state})

    def forget(self, client: _Client) -> None:
        """Forget a web process whose connection is gone."""
        self._clients.discard(client)

    def start(self, client: _Client, content: dict[str, Any], parts: list[bytes]) -> asyncio.Task[None]:
        """Do what a message asks for."""
        task = asyncio.get_running_loop().create_task(self._answer(client, content, parts))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _answer(self, client: _Client, content: dict[str, Any], parts: list[bytes]) -> None:
        number = content["number"]
        try:
            call = get_call(content["call"])
            with tracing.span(call.name, parent=content.get("trace"), kind="server"):
                result = await getattr(self.engine, call.name)(**call.unpack(content["arguments"], parts))
            client.send({"number": number, "result": call.pack_result(result)})
        except ServiceError as exc:
            client.send({"number": number, "refusal": asdict(Refusal.of(exc))})
        except Exception:
            log.exception("a call of the engine failed", extra={"call": content.get("call")})
            client.send({"number": number, "refusal": asdict(Refusal.of(ServiceError()))})


class _Client(MessageProtocol):
    """The connection of one web process. What it asked for is given up when it is gone."""

    def __init__(self, server: EngineServer) -> None:
        super().__init__(self._take, self._give_up, self._take_plain)
        self._server = server
        self._calls: dict[int, asyncio.Task[None]] = {}
        self._plain: dict[int, Callable[[], object] | None] = {}  #: how to give up each plain prediction

    @property
    def is_asking_plainly(self) -> bool:
        """Whether a plain prediction is to be answered."""
        return bool(self._plain)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._server.greet(self)

    def _take(self, content: dict[str, Any], parts: list[bytes]) -> None:
        if (number := content.get("cancel")) is not None:
            if (task := self._calls.get(number)) is not None:
                task.cancel()
            elif (give_up := self._plain.pop(number, None)) is not None:
                give_up()
            return
        task = self._calls[content["number"]] = self._server.start(self, content, parts)
        task.add_done_callback(lambda _: self._calls.pop(content["number"], None))

    def _take_plain(self, message: bytes) -> None:
        number, owner, reference, image, top_k = unpack_question(message)
        self._plain[number] = None
        give_up = self._server.engine.predict_plainly(
            owner, reference, image, top_k, partial(self._answer_plainly, number)
        )
        if number in self._plain:  # else it is answered already
            self._plain[number] = give_up

    def _answer_plainly(self, number: int, answer: PlainAnswer | ServiceError) -> None:
        if number not in self._plain:
            return  # nobody waits for it any more
        del self._plain[number]
        if isinstance(answer, PlainAnswer):
            self.send_bytes(pack_answer(number, answer))
        else:
            self.send({"number": number, "refusal": asdict(Refusal.of(answer))})

    def _give_up(self) -> None:
        self._server.forget(self)
        plain, self._plain = self._plain, {}
        for give_up in filter(None, plain.values()):
            give_up()
        for task in [*self._calls.values()]:
            task.cancel()
