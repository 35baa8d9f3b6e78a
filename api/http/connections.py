"""One client's connection: uvicorn's, with limits on everything that a client may send and on how long it may take.

Everything that comes before a request can be judged (its URL, its headers, the lines between chunks, the trailers) has
one common limit, so that no connection costs more than that. A refusal made here never reaches the app: it is written
at once. So is what costs more to hand on than to answer: a prediction for which there is no place, and `/healthz`.

head         address and headers arrive        until `head_s` after the first byte, or after the connection was made
body         the body arrives                  `body_grace_s`, and longer as long as it comes at `body_bytes_per_s`;
                                               a file for a dataset never pauses for `stream_pause_s`
answer       the app works                     no limit; what the client sends meanwhile waits
idle         between two requests              uvicorn's keep-alive time, looked at twice a second
parting      the rest of a request that was    `parting_s`: it is read and dropped. To close over it would reset the
             answered before all of it came    connection, and a client that still sends might never see the answer
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.access.identity import REFUSAL, Identity
from api.http.admission import DROPPED_BYTES, Door, Ticket, announced_bytes
from api.http.errors import encode_refusal
from api.http.quick_route import Asked, Reply
from trainyard.errors import (
    AddressTooLong,
    HeadersTooLarge,
    MalformedRequest,
    RequestTimeout,
    ServiceError,
    TooManyConnections,
    TooManyUploads,
)

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 64 * 1024
MAX_ADDRESS_BYTES = 16 * 1024
MAX_HEADERS = 100
PARTING_BYTES = 32 * 1024 * 1024  #: that are read at most when a connection is to be closed
PIECE_BYTES = 16 * 1024  #: fed to the parser at once; a limit may be exceeded by this much
MAKE_WAY_S = 0.1  #: after which a prediction no longer keeps others from starting
SPARE = 32  #: connections beyond the limit, for health checks
ARRIVED_AT = "trainyard.arrived_at"  #: in a request's scope: when its headers were there, by the event loop's clock
PROBES = frozenset({"/healthz", "/readyz"})


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
        self._rests = False  # nothing is asked: the deadline is that of an idle connection
        self._parts = False  # the last answer was given: what still comes is dropped
        self._drops = False  # the body that arrives is of a request that is answered already
        self._dropped_bytes = 0

    # --- a connection comes and goes ---

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn does
        """Accept a connection. At the limit, the connection that has been idle longest is closed for it."""
        super().connection_made(transport)
        self._written_to: Any = _Parting(transport, self)
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
            asked.leave()
            if asked.give_up is not None:
                asked.give_up()
            else:
                log.info("a client left before its request was complete", extra={"path": asked.cycle.scope["path"]})
        super().connection_lost(exc)

    def part(self) -> None:
        """Close once the client has read the answer, if it is still sending; else at once."""
        if not self.is_receiving or self.transport.is_closing():
            self.transport.close()
            return
        self._parts = True
        self._deadline = self.loop.time() + self._door.parting_s
        self._door.idle[self] = None  # it may be closed for another
        self.transport.write_eof()
        self.flow.resume_reading()

    @property
    def is_receiving(self) -> bool:
        """Whether a body is still to come."""
        return self._body_began is not None

    @property
    def _is_answered(self) -> bool:
        """Whether a body is still to come of a request that was answered."""
        return self.is_receiving and (self._drops or self.cycle.response_complete)

    def is_stuck(self, since: float) -> bool:
        """Whether the client does not read its answer, or has sent nothing of its body since a moment."""
        return self.flow.write_paused or (self.is_receiving and self._heard_at < since)

    def check_time(self, now: float) -> None:
        """Refuse a request that takes too long to arrive. The server calls this twice a second."""
        if self._deadline is None or now < self._deadline:
            return
        if self._rests:
            self.transport.close()
        elif self._is_answered or (self._overhead_bytes == 0 and not self.is_receiving):
            self.transport.abort()  # the rest of its body does not come, or it never said anything
        elif self.flow.read_paused:  # it is us who don't read
            self._deadline = now + self._door.body_grace_s
        else:
            self.refuse(RequestTimeout())

    # --- bytes come in ---

    def data_received(self, data: bytes) -> None:
        """Feed the parser in pieces, and stop where a limit is exceeded."""
        if self._parts:
            self._dropped_bytes += len(data)
            if self._dropped_bytes > PARTING_BYTES:
                self.transport.abort()
            return
        if self._rests:
            self._rests, self._deadline = False, self.loop.time() + self._door.head_s
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
            if self._parts or self.transport.is_closing():
                return
            if self._overhead_bytes > MAX_HEAD_BYTES:
                self.refuse(HeadersTooLarge())
                return

    def on_url(self, url: bytes) -> None:
        """See uvicorn."""
        self.url += url
        if len(self.url) > MAX_ADDRESS_BYTES:
            self._fail(AddressTooLong())

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header. A trailer is dropped, because it comes after the headers were checked."""
        if self.is_receiving:
            return
        if len(self.headers) >= MAX_HEADERS:
            self._fail(HeadersTooLarge(f"the request has more than {MAX_HEADERS} headers: send fewer"))
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Answer the request, or admit it if there is a place for it."""
        size = announced_bytes(self.headers)
        self._body_began = self._heard_at = self.loop.time()
        self._body_bytes, self._body_to_come = 0, size or 0
        self._deadline = self._body_began + self._door.body_grace_s
        is_plain = size is not None and size <= DROPPED_BYTES and not self.expect_100_continue
        if is_plain and (self.cycle is None or self.cycle.response_complete) and self._answer_at_once():
            self._drops = True
        else:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Count a piece of the body, and refuse it if there is no space for it."""
        self._overhead_bytes = 0
        self._body_bytes += len(body)
        self._body_to_come -= len(body)
        if self._drops:
            return
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
        if self._drops:
            self._drops = False
            self._rest()
            return
        super().on_message_complete()
        if self.cycle.response_complete:  # the answer did not wait for the body
            self._rest()
        elif self._asked is not None and self._asked.cycle is self.cycle:
            self._ask(self._asked)

    def _fail(self, error: ServiceError) -> None:
        self._refusal = error
        raise _Refused

    def _rest(self) -> None:
        """Wait for the next request."""
        self._rests = True
        self._deadline = self.loop.time() + self.timeout_keep_alive
        self._door.idle.pop(self, None)
        self._door.idle[self] = None  # the last of those that are idle

    # --- requests go in, answers go out ---

    def _answer_at_once(self) -> bool:
        """Answer by the head alone what needs nothing else: no task, no scope, no timer is made for it."""
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return False
        path, _, query = self.url.partition(b"?")
        answer = self._door.answer_by_head(
            self.parser.get_method(), path, query, self.headers, self.server_state.default_headers
        )
        if answer is not None:
            self.transport.write(answer)
            self._read_if_read()
        return answer is not None

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.transport = self._written_to
        cycle.scope[ARRIVED_AT] = self.loop.time()  # type: ignore[literal-required]  # a deadline counts from here
        self._door.idle.pop(self, None)
        busy = len(self.connections) - len(self._door.idle)
        if busy > self._door.max_connections and cycle.scope["path"] not in PROBES:
            self._answer(cycle, TooManyConnections(), closes=True)
        elif (judged := self._door.judge(dict(cycle.scope))) is None:
            self._looking = self.loop.create_task(self._start_when_known(cycle, app))
        else:
            self._start_judged(judged, cycle, app)

    async def _start_when_known(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Start a request when it is known whether its key is valid, and has not sent too many."""
        judged = await self._door.look_up(dict(cycle.scope))
        if not self._parts and not self.transport.is_closing():
            self._start_judged(judged, cycle, app)

    def _start_judged(self, judged: Identity | ServiceError, cycle: RequestResponseCycle, app: Any) -> None:
        if isinstance(judged, ServiceError):  # the app says so, and strangers take nobody's place
            cycle.scope[REFUSAL] = judged  # type: ignore[literal-required]  # one of ours
            super()._start_asgi_task(cycle, app)
            return
        headers = list(cycle.scope["headers"])
        ticket = self._door.admission.enter(cycle.scope["method"], cycle.scope["path"], headers)
        if isinstance(ticket, ServiceError):
            size = announced_bytes(headers)
            is_dropped = size is not None and size <= DROPPED_BYTES and not cycle.waiting_for_100_continue
            self._answer(cycle, ticket, closes=not is_dropped)
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
            self._asked = Asked(question, cycle, partial(self._door.admission.leave, ticket))
            if not cycle.more_body:
                self._ask(self._asked)
            return
        super()._start_asgi_task(cycle, partial(ticket.run, app))

    def _ask(self, asked: Asked) -> None:
        assert self._door.answerer is not None, "it has read the question"
        asked.give_up = self._door.answerer.ask(asked.question, bytes(asked.cycle.body), partial(self._reply, asked))

    def _reply(self, asked: Asked, reply: Reply | ServiceError) -> None:
        """Answer what was asked without the app."""
        if self._asked is not asked:
            return  # the client is gone
        self._asked, cycle = None, asked.cycle
        asked.leave()
        closes = not cycle.keep_alive
        if isinstance(reply, ServiceError):
            self.transport.write(encode_refusal(reply, asked.question.request_id, closes=closes))
        else:
            self.transport.write(reply.encode(cycle.default_headers, closes=closes))
        self._complete(cycle, closes=closes)

    def on_response_complete(self) -> None:
        """Start the request that waits behind the one that is answered; else wait for the next."""
        self.server_state.total_requests += 1
        if self._parts or self.transport.is_closing():
            return
        self._read_if_read()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._overhead_bytes and not self.is_receiving:  # the next one is arriving
            self._door.idle[self] = None
            self._deadline = self.loop.time() + self._door.head_s
        elif not self.is_receiving:
            self._rest()

    def resume_writing(self) -> None:
        """See asyncio."""
        super().resume_writing()
        if self.cycle is None or self.cycle.response_complete:  # else the request under way decides
            self._read_if_read()

    def _read_if_read(self) -> None:
        """Take more requests only of a client that reads its answers: else those would gather here without end."""
        (self.flow.pause_reading if self.flow.write_paused else self.flow.resume_reading)()

    def _answer(self, cycle: RequestResponseCycle, error: ServiceError, *, closes: bool) -> None:
        """Answer a request that does not enter the app."""
        closes = closes or not cycle.keep_alive
        self.transport.write(self._door.refuse(error, dict(cycle.scope), closes=closes))
        self._complete(cycle, closes=closes)

    def _complete(self, cycle: RequestResponseCycle, *, closes: bool) -> None:
        """Go on after an answer that the app has not given."""
        cycle.waiting_for_100_continue = False
        cycle.response_started = cycle.response_complete = True
        if closes:
            self.part()
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
        self.transport.write(self._door.refuse(error, {"headers": self.headers or []}, closes=True))
        if isinstance(error, HeadersTooLarge | MalformedRequest):
            self.transport.close()  # what still comes is nothing that a client would read an answer to
        else:
            self.part()


class _Parting:
    """What the app's answers are written to: uvicorn closes it where the connection is to part from its client."""

    def __init__(self, transport: asyncio.Transport, connection: Connection) -> None:
        self.write, self.is_closing, self.close = transport.write, transport.is_closing, connection.part
