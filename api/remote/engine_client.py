"""The engine as a web process sees it: every call is sent to the engine's process, and waits for its answer.

If the engine's process ends, it is started again by the supervisor. What it has not answered is then asked once more:
a prediction changes nothing, so no client notices more than a delay.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from api.remote.calls import get_call
from api.remote.messages import MessageProtocol
from api.remote.plain_messages import pack_question, unpack_answer
from api.serving.interface import Classified, ImageForm, Inferred, ModelDescription, ModelState, PlainAnswer, Then
from api.serving.refusals import Refusal
from trainyard import tracing
from trainyard.errors import ModelLoading, PredictQueueFull, ServiceError

log = logging.getLogger(__name__)

RECONNECT_S = 0.05
MAX_UNSENT_BYTES = 64 * 1024 * 1024  #: of calls that the engine does not take
MAX_TRIES = 3  #: of a call: one during which the engine's process ends again and again may be the reason


@dataclass(eq=False)
class _Pending:
    """A call that is not answered yet."""

    name: str
    send: Callable[[MessageProtocol], bool]
    then: Callable[[Any], None]  #: takes its result, or the error why there is none
    is_over: bool = False
    tries: int = 0

    def settle(self, result: Any) -> None:
        """Hand on the result or the error, the first that comes."""
        if not self.is_over:
            self.is_over = True
            self.then(result)


def _settle(future: asyncio.Future[Any], result: Any) -> None:
    if future.done():
        return
    if isinstance(result, ServiceError):
        future.set_exception(result)
    else:
        future.set_result(result)


class RemoteEngine:
    """Implements `ServingEngine`. Used in one event loop; `start` must be called in it."""

    def __init__(self, socket_path: Path, *, wait_s: float) -> None:
        """Make it.

        Args:
            socket_path: where the engine's process listens.
            wait_s: how long calls wait for an engine that is not there.
        """
        self._path, self._wait_s = socket_path, wait_s
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._link: MessageProtocol | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._stopped = False
        self._state: ModelState = "loading"

    # --- ServingEngine ---

    def start(self) -> None:
        """Connect in the background, again whenever the connection is lost."""
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def stop(self) -> None:
        """Close the connection."""
        self._stopped = True
        if self._connecting is not None:
            self._connecting.cancel()
        if self._link is not None:
            self._link.close()

    @property
    def model_state(self) -> ModelState:
        """See `ServingEngine`; as the engine last told it."""
        return self._state

    async def classify(
        self,
        owner: str,
        reference: str,
        images: list[bytes],
        top_k: int,
        sticky: str | None = None,
        calibrated: bool = False,
    ) -> Classified:
        """See `ServingEngine`."""
        given = {"owner": owner, "reference": reference, "top_k": top_k, "sticky": sticky, "calibrated": calibrated}
        classified: Classified = await self._call("classify", images=images, **given)
        return classified

    async def warm(self, owner: str, checkpoint_ids: dict[str, str]) -> None:
        """See `ServingEngine`."""
        await self._call("warm", owner=owner, checkpoint_ids=checkpoint_ids)

    async def follow_alias(self, owner: str, name: str, version: int | None) -> None:
        """See `ServingEngine`."""
        await self._call("follow_alias", owner=owner, name=name, version=version)

    async def infer(
        self,
        owner: str,
        reference: str,
        images: list[bytes],
        form: ImageForm,
        shape: list[int],
        num_named: int,
        sticky: str | None = None,
    ) -> Inferred:
        """See `ServingEngine`."""
        inferred: Inferred = await self._call(
            "infer",
            owner=owner,
            reference=reference,
            images=images,
            form=form,
            shape=shape,
            num_named=num_named,
            sticky=sticky,
        )
        return inferred

    async def describe(self, owner: str, reference: str) -> ModelDescription:
        """See `ServingEngine`."""
        described: ModelDescription = await self._call("describe", owner=owner, reference=reference)
        return described

    async def list_loaded(self) -> list[str]:
        """See `ServingEngine`."""
        loaded: list[str] = await self._call("list_loaded")
        return loaded

    async def unload(self, checkpoint_id: str) -> bool:
        """See `ServingEngine`."""
        unloaded: bool = await self._call("unload", checkpoint_id=checkpoint_id)
        return unloaded

    async def forget(self, job_id: str) -> None:
        """See `ServingEngine`."""
        await self._call("forget", job_id=job_id)

    # --- the connection ---

    async def _call(self, name: str, /, **arguments: Any) -> Any:
        call = get_call(name)
        values, parts = call.pack(arguments)
        if self._link is not None and self._link.unsent_bytes > MAX_UNSENT_BYTES:
            raise PredictQueueFull(retry_after_s=1)
        number = next(self._numbers)
        content = {"number": number, "call": name, "arguments": values}
        if (trace := tracing.current()) is not None:
            content["trace"] = trace
        answer = asyncio.get_running_loop().create_future()
        pending = _Pending(name, lambda link: link.send(content, parts), partial(_settle, answer))
        self._pending[number] = pending
        try:
            self._send(pending)
            return call.unpack_result(await answer)
        finally:
            del self._pending[number]
            if not answer.done() or answer.cancelled():
                self._tell_cancelled(number)

    def predict_plainly(self, owner: str, reference: str, image: bytes, top_k: int, then: Then) -> Callable[[], object]:
        """See `ServingEngine`."""
        number = next(self._numbers)
        if self._link is not None and self._link.unsent_bytes > MAX_UNSENT_BYTES:
            then(PredictQueueFull(retry_after_s=1))
        else:
            message = pack_question(number, owner, reference, image, top_k)

            def end(result: PlainAnswer | ServiceError) -> None:
                self._pending.pop(number, None)
                then(result)

            pending = _Pending("predict_plainly", lambda link: link.send_bytes(message), end)
            self._pending[number] = pending
            self._send(pending)
        return partial(self._give_up_plain, number)

    def _give_up_plain(self, number: int) -> None:
        pending = self._pending.pop(number, None)
        if pending is not None and not pending.is_over:
            self._tell_cancelled(number)

    def _take_plain(self, message: bytes) -> None:
        """Take the answer to a plain prediction."""
        number, answer = unpack_answer(message)
        if (pending := self._pending.get(number)) is not None:
            pending.settle(answer)

    def _send(self, pending: _Pending) -> None:
        if self._link is not None and pending.send(self._link):
            pending.tries += 1

    def _tell_cancelled(self, number: int) -> None:
        if self._link is not None:
            self._link.send({"cancel": number})

    def _take(self, content: dict[str, Any], parts: list[bytes]) -> None:
        """Take a message of the engine's: its state, or the answer to a call."""
        if "state" in content:
            self._state = content["state"]
            return
        pending = self._pending.get(content["number"])
        if pending is None:
            return  # nobody waits for it any more
        pending.settle(Refusal(**content["refusal"]).to_error() if "refusal" in content else content["result"])

    async def _connect(self) -> None:
        """Connect, and ask again what is not answered."""
        loop = asyncio.get_running_loop()
        away_since = loop.time()
        while not self._stopped:
            try:
                await self._use_connection()
                away_since = loop.time()
            except OSError:
                pass  # the engine is not there yet
            except Exception:
                log.exception("the connection to the engine failed; trying again")
            if loop.time() - away_since > self._wait_s:
                self._refuse_all()
            await asyncio.sleep(RECONNECT_S)

    async def _use_connection(self) -> None:
        """Connect, ask what is to be asked, and return when the connection is lost.

        Raises:
            OSError: the engine does not listen.
        """
        lost = asyncio.Event()
        link = MessageProtocol(self._take, lost.set, self._take_plain)
        await asyncio.get_running_loop().create_unix_connection(lambda: link, str(self._path))
        self._link = link
        try:
            for pending in [*self._pending.values()]:
                self._ask_again(pending)
            await lost.wait()
        finally:
            self._link, self._state = None, "loading"

    def _refuse_all(self) -> None:
        """Refuse what waits: the engine has been away for too long."""
        for pending in [*self._pending.values()]:
            pending.settle(ModelLoading("the engine is being started: try again in a moment", retry_after_s=2))

    def _ask_again(self, pending: _Pending) -> None:
        if pending.tries >= MAX_TRIES and not pending.is_over:
            log.error("the engine's process ended during a call, again and again", extra={"call": pending.name})
            pending.settle(ModelLoading("the engine could not answer this: it ended each time"))
            return
        self._send(pending)
