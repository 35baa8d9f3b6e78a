"""The ASGI middleware that every request passes before its route, from the outermost to the innermost.

`RequestId` names the request, `SecurityHeaders` marks the answer, `LastResort` turns an uncaught exception into a 500,
`Authentication` checks the headers before the body is read, `BodyLimit` counts the body's bytes, `HeadAsGet` lets HEAD
be answered like GET; `compression` is innermost.
"""

from __future__ import annotations

import logging
from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.access.gate import Gate
from api.access.identity import IDENTITY, REFUSAL
from api.http import documentation, page
from api.http.admission import SMALL_BYTES, announced_bytes
from api.http.errors import build_response, is_of_open_inference
from api.http.streamed_bodies import is_streamed
from api.observability.requests import ROUTE, identify, note
from trainyard.access.refusals import RateLimited
from trainyard.errors import ServiceError, TooLarge, Unauthenticated
from trainyard.logs import request_id

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/", "/healthz", "/readyz", "/openapi.json", "/yard", page.ICON}) | documentation.PATHS
EVENT_STREAM = "text/event-stream"
_CLOSE = {"Connection": "close"}  # the rest of the body is not read


class RequestId:
    """Gives each request an id: the client's own if it is well formed, else a new one. Every answer carries it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = identify(Headers(scope=scope).get("x-request-id", ""))

        async def send_named(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["X-Request-ID"] = identity
            await send(message)

        token = request_id.set(identity)
        try:
            await self._app(scope, receive, send_named)
        finally:
            request_id.reset(token)


def is_open(path: str) -> bool:
    """Whether everybody may ask for a path: it tells nothing of anybody's work."""
    return path in OPEN_PATHS or path.startswith(page.ASSETS)


class LastResort:
    """Answers an uncaught exception with 500 and the usual body; the traceback goes only to the log.

    Where the answer has begun, its connection is cut. That a store or the database went away meanwhile is a line in the
    log, without a traceback.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def send_watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, send_watched)
        except ClientDisconnect:
            log.info("a client left before its request was complete", extra={"path": scope["path"]})
        except Exception as exc:
            told = {"method": scope["method"], "path": scope["path"]}
            if started and (outage := _find_refusal(exc)) is not None:
                log.warning("an answer was cut off", extra=told | {"detail": str(outage)})
                return  # the server cuts the connection of an answer that is not complete
            log.exception("a request failed", extra=told)
            if started:
                raise
            await build_response(ServiceError(), _CLOSE)(scope, receive, send)


def _find_refusal(exc: BaseException) -> ServiceError | None:
    """Return the error of ours that cut an answer off. Starlette wraps one that it can't answer any more."""
    found = exc.__cause__ if isinstance(exc, RuntimeError) else exc
    return found if isinstance(found, ServiceError) else None


class Authentication:
    """Finds out who a request acts for before its body is read, and refuses a request without a valid key.

    While a body is sent or an answer is read, which may take hours, the key is looked at again and again. An answer
    without a body only says that something was done: who revokes the key that they use is told so.
    """

    def __init__(self, app: ASGIApp, gate: Gate) -> None:
        self._app, self._gate = app, gate

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        identity = scope.get(REFUSAL) or await self._gate.identify(scope)
        if isinstance(identity, ServiceError):
            headers = {} if isinstance(identity, RateLimited) and _has_small_body(scope) else _CLOSE
            await build_response(identity, headers)(scope, receive, send)
            return
        scope[IDENTITY] = identity
        if identity.can_end:
            await self._run_while_valid(scope, receive, send)
        else:
            await self._app(scope, receive, send)

    async def _run_while_valid(self, scope: Scope, receive: Receive, send: Send) -> None:
        has_ended, started, is_stream, is_empty = False, False, False, False

        async def receive_while_valid() -> Message:
            message = await receive()
            return {"type": "http.disconnect"} if await look() else message

        async def send_while_valid(message: Message) -> None:
            nonlocal started, is_stream, is_empty
            is_empty = is_empty or message.get("status") == HTTPStatus.NO_CONTENT
            if not is_empty and await look():
                raise _KeyEnded
            if message["type"] == "http.response.start":
                started = True
                is_stream = Headers(raw=message.get("headers", [])).get("content-type", "").startswith(EVENT_STREAM)
            await send(message)

        async def look() -> bool:
            nonlocal has_ended
            has_ended = has_ended or isinstance(await self._gate.identify(scope), Unauthenticated)
            return has_ended

        try:
            await self._app(scope, receive_while_valid, send_while_valid)
        except Exception:
            if not has_ended:
                raise
        if not has_ended or is_empty:
            return
        log.info("a request was cut off, because its key or session ended", extra={"path": scope["path"]})
        if not started:
            await build_response(Unauthenticated(), _CLOSE)(scope, receive, send)
        elif is_stream:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        # any other answer stays incomplete, and the server closes the connection


def _has_small_body(scope: Scope) -> bool:
    """Whether the body of a request that is refused is read and dropped, so that the connection can stay."""
    size = announced_bytes(list(scope["headers"]))
    return size is not None and size <= SMALL_BYTES


class _KeyEnded(Exception):
    """Ends the app's work on an answer."""


class BodyLimit:
    """Refuses a body that declares itself too large, and one that turns out to be too large."""

    def __init__(self, app: ASGIApp, default: int, by_path: dict[str, int], streamed: int) -> None:
        """Make it.

        Args:
            app: what it protects.
            default: bytes of a body.
            by_path: of a body to some paths.
            streamed: of a body that goes straight to the disk.
        """
        self._app, self._default, self._by_path, self._streamed = app, default, by_path, streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = self._by_path.get(scope["path"], self._default)
        if is_of_open_inference(scope["path"]) and scope["path"].endswith("/infer"):
            limit = self._by_path.get("/predict", self._default)
        if is_streamed(scope["method"], scope["path"], scope["headers"]):
            limit = self._streamed
        declared = Headers(scope=scope).get("content-length", "")
        if declared.isdecimal() and int(declared[:20]) > limit:
            await self._refuse(limit, scope, receive, send)
            return
        received, exceeded, started = 0, False, False

        async def receive_counted() -> Message:
            nonlocal received, exceeded
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                exceeded = True
                raise TooLarge
            return message

        async def send_unless_exceeded(message: Message) -> None:
            nonlocal started
            if not exceeded or started:  # what the app makes of the broken body is of no interest
                started = True
                await send(message)

        try:
            await self._app(scope, receive_counted, send_unless_exceeded)
        except TooLarge:
            if not exceeded:
                raise
        if exceeded and not started:
            await self._refuse(limit, scope, receive, send)

    async def _refuse(self, limit: int, scope: Scope, receive: Receive, send: Send) -> None:
        message = f"the body is larger than the {limit} bytes that are taken here: send a smaller one"
        await build_response(TooLarge(message), _CLOSE)(scope, receive, send)


class HeadAsGet:
    """Answers HEAD with the status and headers of GET; the server leaves the body out."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        answered, as_get = False, {**scope, "method": "GET"}

        async def send_head(message: Message) -> None:
            nonlocal answered
            if answered:
                return
            if (route := as_get.get("route")) is not None:
                note(scope, ROUTE, route.path)
            await send(message)
            if message["type"] == "http.response.start":
                answered = True  # an event stream would go on for hours
                await send({"type": "http.response.body", "body": b"", "more_body": False})

        await self._app(as_get, receive, send_head)
