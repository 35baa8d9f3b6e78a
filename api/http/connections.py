"""One client's connection: uvicorn's, with limits on everything that a client may send and on how long it may take.

Everything that comes before a request can be judged (its URL, its headers, the lines between chunks, the trailers) has
one common limit, so that no connection costs more than that. A refusal made here never reaches the app: it is written
at once.

head         address and headers arrive        until `head_s` after the first byte, or after the connection was made
body         the body arrives                  `body_grace_s`, and longer as long as it comes at `body_bytes_per_s`;
                                               a file for a dataset never pauses for `stream_pause_s`
answer       the app works                     no limit; what the client sends meanwhile waits
idle         between two requests              uvicorn's keep-alive time
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.access.gate import Gate
from api.access.identity import REFUSAL, Identity
from api.access.rate_limit import RateLimiter
from api.http.admission import SMALL_BYTES, Admission, Ticket, announced_bytes
from api.http.errors import encode
from api.http.middleware import identify
from api.http.quick_route import Answerer, Asked, Reply
from trainyard.errors import (
    AddressTooLong,
    HeadersTooLarge,
    MalformedRequest,
    RequestTimeout,
    ServiceError,
    TooManyConnections,
    TooManyUploads,
)
from trainyard.logs import request_id

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
MAX_ADDRESS_BYTES = 16 * 1024
MAX_HEADERS = 100
PIECE_BYTES = 16 * 1024  #: fed to the parser at once; a limit may be exceeded by this much
MAKE_WAY_S = 0.1  #: after which a prediction no longer keeps others from starting
SPARE = 32  #: connections beyond the limit, for health checks
ARRIVED_AT = "trainyard.arrived_at"  #: in a request's scope: when its headers were there, by the event loop's clock
PROBES = frozenset({"/healthz", "/readyz"})


@dataclass
class Door:
    """What the connections of one server share; belongs to its event loop."""

    admission: Admission
    gate: Gate
    max_connections: int
    limiter: RateLimiter | None = None  #: of the requests that a key may send; None: it may send any number
    answerer: Answerer | None = None  #: of what is answered without the app
    head_s: float = 10.0
    body_grace_s: float = 20.0
    body_bytes_per_s: float = 20_000.0
    stream_pause_s: float = 30.0
    idle: dict[Connection, None] = field(default_factory=dict)  #: nothing is being answered; the longest idle first


class _Refused(Exception):
    """Ends the parser's work on a request."""


class Connection(HttpToolsProtocol):
    """One client's connection; see the module."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        door: Door,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._door = door
        self._refusal: ServiceError | None = None
        self._overhead_bytes = 0  # since the last byte of a body, or since the last request
        self._deadline: float | None = None
        self._body_began: float | None = None  # None: no body is arriving
        self._body_bytes = self._body_to_come = 0
        self._heard_at = 0.0  # when the last piece of a body came
        self._ticket: Ticket | None = None  # of the request whose body arrives
        self._looking: asyncio.Task[None] | None = None  # for the key of the request that is to be started
        self._waits: Ticket | None = None  # of the request that waits to be started
        self._asked: Asked | None = None  # what is being answered without the app

    # --- a connection comes and goes ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Accept a connection. At the limit, the connection that has been idle longest is closed for it."""
        super().connection_made(transport)
        idle, most = self._door.idle, self._door.max_connections
        if len(self.connections) > most and idle:
            next(iter(idle)).transport.abort()
        elif len(self.connections) > most + SPARE:
            transport.abort()
            return
        idle[self] = None
        self._deadline = self.loop.time() + self._door.head_s

    def connection_lost(self, exc: Exception | None) -> None:
        """See uvicorn."""
        self._door.idle.pop(self, None)
        self._deadline = self._ticket = None
        if self._waits is not None:
            self._door.admission.leave(self._waits)
        if (asked := self._asked) is not None:
            self._asked = None
            self._door.admission.leave(asked.ticket)
            if asked.give_up is not None:
                asked.give_up()
            else:
                path = asked.cycle.scope["path"]
                log.info("a client left before its request was complete", extra={"path": path})
        super().connection_lost(exc)

    @property
    def is_receiving(self) -> bool:
        """Whether a body is still to come."""
        return self._body_began is not None

    def is_stuck(self, since: float) -> bool:
        """Whether the client does not read its answer, or has sent nothing of its body since a moment."""
        return self.flow.write_paused or (self.is_receiving and self._heard_at < since)

    def check_time(self, now: float) -> None:
        """Refuse a request that takes too long to arrive. The server calls this twice a second."""
        if self._deadline is None or now < self._deadline:
            return
        if self.flow.read_paused:  # it is us who don't read
            self._deadline = now + self._door.body_grace_s
        elif self._overhead_bytes == 0 and not self.is_receiving:
            self.transport.abort()  # it never said anything
        else:
            self.refuse(RequestTimeout())

    # --- bytes come in ---

    def data_received(self, data: bytes) -> None:
        """Feed the parser in pieces, and stop where a limit is exceeded."""
        self._unset_keepalive_if_required()
        if self._deadline is None and (self.cycle is None or self.cycle.response_complete):
            self._deadline = self.loop.time() + self._door.head_s
        start = 0
        while start < len(data):
            piece = data[start : start + max(PIECE_BYTES, self._body_to_come)]  # no limit is near within a known body
            start += len(piece)
            self._overhead_bytes += len(piece)
            try:
                self.parser.feed_data(piece)
            except httptools.HttpParserError:
                self.refuse(self._refusal or MalformedRequest())
            except httptools.HttpParserUpgrade:
                pass  # it is answered as if it had not asked
            if self.transport.is_closing():
                return
            if self._overhead_bytes > MAX_HEAD_BYTES:
                self.refuse(HeadersTooLarge())
                return

    def on_url(self, url: bytes) -> None:
        """See uvicorn."""
        super().on_url(url)
        if len(self.url) > MAX_ADDRESS_BYTES:
            self._fail(AddressTooLong())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. A trailer is dropped, because it comes after the headers were checked."""
        if self.is_receiving:
            return
        if len(self.headers) >= MAX_HEADERS:
            self._fail(HeadersTooLarge(f"the request has more than {MAX_HEADERS} headers: send fewer"))
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Admit the request if there is a place for it."""
        self._body_began = self._heard_at = self.loop.time()
        self._body_bytes, self._body_to_come = 0, announced_bytes(self.headers) or 0
        self._deadline = self._body_began + self._door.body_grace_s
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count a piece of the body, and refuse it if there is no space for it."""
        self._overhead_bytes = 0
        self._body_bytes += len(body)
        self._body_to_come -= len(body)
        self._heard_at = self.loop.time()
        if self._body_began is not None:
            earned_s = self._body_bytes / self._door.body_bytes_per_s
            self._deadline = self._body_began + self._door.body_grace_s + earned_s
            if self._ticket is not None and self._ticket.is_streamed:
                self._deadline = min(self._deadline, self._heard_at + self._door.stream_pause_s)
        if self._ticket is not None and not self.cycle.response_complete and not self._ticket.take(len(body)):
            self._fail(TooManyUploads())
        super().on_body(body)

    def on_message_complete(self) -> None:
        """See uvicorn."""
        self._overhead_bytes = self._body_to_come = 0
        self._deadline = self._body_began = self._ticket = None
        if self.cycle.response_complete:  # the answer did not wait for the body: from now on the connection is idle
            self._deadline = self.loop.time() + self._door.head_s
        super().on_message_complete()
        if self._asked is not None and self._asked.cycle is self.cycle:
            self._ask(self._asked)

    def _fail(self, error: ServiceError) -> None:
        self._refusal = error
        raise _Refused

    # --- requests go in, answers go out ---

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        path = cycle.scope["path"]
        cycle.scope[ARRIVED_AT] = self.loop.time()  # type: ignore[literal-required]  # a deadline counts from here
        self._door.idle.pop(self, None)
        busy = len(self.connections) - len(self._door.idle)
        if busy > self._door.max_connections and path not in PROBES:
            self._answer(cycle, TooManyConnections(), closes=True)
            return
        judged, limiter = self._door.gate.judge(dict(cycle.scope)), self._door.limiter
        if judged is None or (limiter is not None and limiter.concerns(judged, path) and not _passes(limiter, judged)):
            self._looking = self.loop.create_task(self._start_when_known(cycle, app))
        else:
            self._start_judged(judged, cycle, app)

    async def _start_when_known(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a request when it is known whether its key is valid, and has not sent too many."""
        judged, limiter = await self._door.gate.identify(dict(cycle.scope)), self._door.limiter
        if limiter is not None and isinstance(judged, Identity) and limiter.concerns(judged, cycle.scope["path"]):
            judged = await limiter.admit(judged) or judged
        if not self.transport.is_closing():
            self._start_judged(judged, cycle, app)

    def _start_judged(self, judged: Identity | ServiceError, cycle: RequestResponseCycle, app: Any) -> None:
        if isinstance(judged, ServiceError):  # the app says so, and strangers take nobody's place
            cycle.scope[REFUSAL] = judged  # type: ignore[literal-required]  # one of ours
            super()._start_asgi_task(cycle, app)
            return
        headers = list(cycle.scope["headers"])
        ticket = self._door.admission.enter(cycle.scope["method"], cycle.scope["path"], headers)
        if isinstance(ticket, ServiceError):
            size = announced_bytes(headers)  # a small body is read and dropped, so that the connection can stay
            self._answer(cycle, ticket, closes=size is None or size > SMALL_BYTES)
            return
        if self.is_receiving and self.cycle is cycle:  # else it is the body of the request behind it that arrives
            self._ticket = ticket
            if not ticket.take(self._body_bytes):  # what came while the key was looked up
                self._ticket = None
                self._door.admission.leave(ticket)
                self.refuse(TooManyUploads())
                return
        self._waits = ticket
        self._door.admission.start(ticket, partial(self._start, ticket, judged, cycle, app))

    def _start(self, ticket: Ticket, judged: Identity, cycle: RequestResponseCycle, app: Any) -> None:
        self._waits = None
        if ticket.runs:
            self.loop.call_later(MAKE_WAY_S, self._door.admission.make_way, ticket)
        answerer = self._door.answerer
        if answerer is not None and (question := answerer.read(cycle.scope, judged)) is not None:
            self._asked = Asked(question, cycle, ticket)
            if not cycle.more_body:
                self._ask(self._asked)
            return
        super()._start_asgi_task(cycle, partial(_run_with, ticket, app))

    def _ask(self, asked: Asked) -> None:
        assert self._door.answerer is not None, "it has read the question"
        asked.give_up = self._door.answerer.ask(asked.question, bytes(asked.cycle.body), partial(self._reply, asked))

    def _reply(self, asked: Asked, reply: Reply | ServiceError) -> None:
        """Answer what was asked without the app."""
        if self._asked is not asked:
            return  # the client is gone
        self._asked, cycle = None, asked.cycle
        self._door.admission.leave(asked.ticket)
        if isinstance(reply, ServiceError):
            self._answer(cycle, reply, closes=False)
            return
        cycle.response_started = cycle.response_complete = True
        self.transport.write(_encode_reply(reply, cycle.default_headers, closes=not cycle.keep_alive))
        if not cycle.keep_alive:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        if not self.pipeline:
            self._door.idle[self] = None
            self._deadline = self._deadline if self._overhead_bytes or self.is_receiving else None
        super().on_response_complete()

    def _answer(self, cycle: RequestResponseCycle, error: ServiceError, *, closes: bool) -> None:
        """Answer a request that does not enter the app."""
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        closes = closes or not cycle.keep_alive
        self.transport.write(_encode_answer(error, list(cycle.scope["headers"]), closes=closes))
        if closes:
            self.transport.close()
        self.on_response_complete()

    def refuse(self, error: ServiceError) -> None:
        """Refuse the request that is arriving and close; nothing is sent after this answer."""
        cycle = self.cycle
        if self.transport.is_closing():
            return
        if cycle is not None and not cycle.response_complete:
            can_answer = self.is_receiving and not cycle.response_started and not self.pipeline
            cycle.disconnected = True
            cycle.message_event.set()
            if not can_answer:
                self.transport.abort()
                return
        self.transport.write(_encode_answer(error, self.headers or [], closes=True))
        self.transport.close()


def _passes(limiter: RateLimiter, judged: Identity | ServiceError) -> bool:
    """Whether the limit of requests lets a request pass without asking anybody."""
    return isinstance(judged, Identity) and limiter.admits_at_once(judged)


async def _run_with(ticket: Ticket, app: Any, scope: Any, receive: Any, send: Any) -> None:
    try:
        await app(scope, receive, send)
    finally:
        ticket.admission.leave(ticket)


def _encode_reply(reply: Reply, headers: list[tuple[bytes, bytes]], *, closes: bool) -> bytes:
    general = b"".join([b"%b: %b\r\n" % header for header in headers])
    closing = b"connection: close\r\n" if closes else b""
    length = b"content-length: %d\r\n\r\n" % len(reply.body)
    return b"".join((b"HTTP/1.1 200 OK\r\n", general, reply.headers, closing, length, reply.body))


def _encode_answer(error: ServiceError, headers: list[tuple[bytes, bytes]], *, closes: bool) -> bytes:
    given = next((value for name, value in headers if name == b"x-request-id"), b"")
    identity = identify(given.decode("latin-1"))
    token = request_id.set(identity)
    try:
        body = encode(error)
    finally:
        request_id.reset(token)
    lines = [
        f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        "cache-control: no-store",
        "content-security-policy: frame-ancestors 'none'",
        "x-content-type-options: nosniff",
        f"x-request-id: {identity}",
    ]
    if error.retry_after_s is not None:
        lines.append(f"retry-after: {error.retry_after_s}")
    if closes:
        lines.append("connection: close")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
