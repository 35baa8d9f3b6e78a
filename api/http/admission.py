"""Decides from a request's headers whether it may send a body, before the body is read or the app is called.

A prediction needs a place; there are as many as images may wait. Of the requests that have a place only some are worked
on at a time. The others wait here, first come, first served: waiting costs the event loop nothing, so it stays free for
everybody else. A body over 64 KiB needs space: the total of such bodies is limited, and each takes what its headers
announce, until it is answered. Small bodies need no space, so large ones never keep them out. The length of a body in
chunks is unknown, so it takes space as it grows. A file for a dataset goes straight to the disk, however large it is:
it needs no space, but one of a few places of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.access.gate import Gate
from api.access.identity import Identity
from api.access.rate_limit import RateLimiter
from api.http.errors import PreparedAnswer, encode_refusal
from api.http.quick_route import Answerer
from api.http.streamed_bodies import Headers, is_streamed
from api.observability.metrics import AnswerLabels
from api.observability.requests import identify, label_refusal
from trainyard.errors import PredictQueueFull, ServiceError, TooManyUploads

SMALL_BYTES = 64 * 1024
DROPPED_BYTES = 256 * 1024  #: a refused body up to this is read and dropped: that costs less than a new connection
STEP_BYTES = 1024 * 1024  #: by which a body of unknown length takes room
MAX_RUNNING = 64  #: see `Admission`; measured: fewer make batches small, and leave the engine idle beside many refusals
PREDICT = ("POST", "/predict")
_LIVE = PreparedAnswer(200, b'{"status":"ok"}')
_LIVE_LABELS = AnswerLabels("GET", "/healthz", 200, "ok")


class Admission:
    """The free places for predictions and the free space for bodies of one process.

    It belongs to the process's event loop.
    """

    def __init__(
        self,
        *,
        max_predictions: int,
        max_bytes: int,
        largest_bytes: int,
        max_streams: int = 16,
        max_running: int = MAX_RUNNING,
    ) -> None:
        """Make it.

        Args:
            max_predictions: requests to predict that are under way at once, whether they run or wait.
            max_bytes: of large bodies that are under way.
            largest_bytes: of a body; a larger one is refused by the app, so it needs no room.
            max_streams: files for datasets that are received at once.
            max_running: requests to predict that the app works at.
        """
        self._running, self._max_running = 0, max_running
        self._waiting: dict[Ticket, Callable[[], None]] = {}  # how to start each, the first come first
        self._free_places, self._largest_bytes = max_predictions, largest_bytes
        self._free_streams = max_streams
        self.full = PredictQueueFull()  #: the refusal of a request to predict for which there is no place
        self._free_bytes = max(max_bytes, largest_bytes)  # else the largest could never be sent

    def enter(self, method: str, path: str, headers: Headers) -> Ticket | ServiceError:
        """Return a ticket for a request, to be given back when it is answered, or the error why there is none.

        Args:
            method: of the request.
            path: of the request.
            headers: with names in lower case.
        """
        places = int((method, path) == PREDICT)
        if places > self._free_places:
            return self.full
        announced = announced_bytes(headers)
        if is_streamed(method, path, headers):
            return self._enter_stream(announced)
        size = self._room_for(announced)
        if size > self._free_bytes:
            return TooManyUploads()
        self._free_places -= places
        self._free_bytes -= size
        return Ticket(self, places, size)

    def _enter_stream(self, announced: int | None) -> Ticket | ServiceError:
        streams = int(announced is None or announced > SMALL_BYTES)
        if streams > self._free_streams:
            return TooManyUploads(
                "too many files for datasets are being received already: try again in a moment", retry_after_s=5
            )
        self._free_streams -= streams
        return Ticket(self, places=0, room_bytes=0, is_streamed=True, streams=streams)

    def _room_for(self, announced: int | None) -> int:
        if announced is None:
            return min(STEP_BYTES, self._largest_bytes)
        return announced if SMALL_BYTES < announced <= self._largest_bytes else 0

    def widen(self, ticket: Ticket) -> bool:
        """Reserve more space for a body that outgrew its own. False: there is none."""
        if self._free_bytes < STEP_BYTES:
            return False
        self._free_bytes -= STEP_BYTES
        ticket.room_bytes += STEP_BYTES
        return True

    def start(self, ticket: Ticket, start: Callable[[], None]) -> None:
        """Start a request that has a ticket: now, or when others have left."""
        if ticket.places and self._running >= self._max_running:
            self._waiting[ticket] = start
            return
        self._run(ticket, start)

    @property
    def has_place(self) -> bool:
        """Whether one more request to predict may enter."""
        return self._free_places > 0

    @property
    def num_waiting(self) -> int:
        """Requests that have a place and wait to be started."""
        return len(self._waiting)

    def _run(self, ticket: Ticket, start: Callable[[], None]) -> None:
        ticket.runs = ticket.places
        self._running += ticket.runs
        start()

    def leave(self, ticket: Ticket) -> None:
        """Release what a ticket holds, and start the next request that waits; harmless a second time."""
        self._waiting.pop(ticket, None)
        self._free_places += ticket.places
        self._free_bytes += ticket.room_bytes
        self._free_streams += ticket.streams
        ticket.places = ticket.room_bytes = ticket.streams = 0
        self.make_way(ticket)

    def make_way(self, ticket: Ticket) -> None:
        """Let the next that waits start beside a request that goes on; harmless a second time.

        Called for one that takes long: it waits for its body, a decoder or a model, and costs the loop nothing.
        """
        self._running -= ticket.runs
        ticket.runs = 0
        while self._waiting and self._running < self._max_running:
            first = next(iter(self._waiting))
            self._run(first, self._waiting.pop(first))


@dataclass(eq=False)
class Ticket:
    """The place and space that one request holds."""

    admission: Admission
    places: int
    room_bytes: int
    received_bytes: int = 0
    runs: int = 0
    is_streamed: bool = False  #: its body goes to the disk, so it needs no space
    streams: int = 0

    def take(self, number: int) -> bool:
        """Count bytes of the body. False: there is no space for them."""
        self.received_bytes += number
        return (
            self.is_streamed or self.received_bytes <= max(self.room_bytes, SMALL_BYTES) or self.admission.widen(self)
        )

    async def run(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the app answer the request, then give back what it holds."""
        try:
            await app(scope, receive, send)
        finally:
            self.admission.leave(self)


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
    parting_s: float = 2.0
    #: Nothing is being answered; the longest idle first.
    idle: dict[HttpToolsProtocol, None] = field(default_factory=dict)
    #: Before the app was called; the server takes them.
    answered: Counter[AnswerLabels] = field(default_factory=Counter)

    def judge(self, scope: Scope) -> Identity | ServiceError | None:
        """Decide at once who a request acts for. None: its key must be looked up, or its number of requests."""
        judged = self.gate.judge(scope)
        if isinstance(judged, Identity) and self.limiter is not None and not self.limiter.passes(judged, scope["path"]):
            return None
        return judged

    def answer_by_head(
        self, method: bytes, path: bytes, query: bytes, headers: Headers, own: list[tuple[bytes, bytes]]
    ) -> bytes | None:
        """Return the answer to a request that needs nothing but its head. None: it has to be admitted.

        Args:
            method: of the request.
            path: of its URL.
            query: of its URL.
            headers: with names in lower case.
            own: headers that the server gives its answers, such as the date.
        """
        if path == b"/healthz" and method == b"GET":
            self.answered[_LIVE_LABELS] += 1
            return _LIVE.encode(_name(headers), own)
        if path != b"/predict" or method != b"POST" or self.admission.has_place:
            return None
        scope = {"method": "POST", "path": "/predict", "headers": headers, "query_string": query}
        if not isinstance(self.judge(scope), Identity):  # the app says so, and strangers take nobody's place
            return None
        return self.refuse(self.admission.full, scope, closes=False)

    def refuse(self, error: ServiceError, scope: Scope, *, closes: bool) -> bytes:
        """Return the answer that refuses a request, and count it."""
        self.answered[label_refusal(scope, error)] += 1
        return encode_refusal(error, _name(scope["headers"]), closes=closes)

    async def look_up(self, scope: Scope) -> Identity | ServiceError:
        """Decide after a look at the keys, and at how many requests this one's has sent."""
        judged = await self.gate.identify(scope)
        if isinstance(judged, Identity) and self.limiter is not None and self.limiter.concerns(judged, scope["path"]):
            return await self.limiter.admit(judged) or judged
        return judged


def _name(headers: Headers) -> str:
    """Return the id of a request with these headers."""
    for name, value in headers:
        if name == b"x-request-id":
            return identify(value.decode("latin-1"))
    return identify("")


def announced_bytes(headers: Headers) -> int | None:
    """Return the length of the body that the headers announce. None: it comes in chunks, so it is unknown."""
    size = 0
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length" and value.isdigit():
            size = int(value[:20])
    return size
