"""Two ways to answer plain requests quickly: on their connection without the app, or before FastAPI looks for a route.

Each layer of the app and each task costs microseconds, and for a small image they add up to more than its prediction.
What is answered without the app must be what the app would answer: every check of the app is made there too, or a
request that would not pass it is left to the app.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from fastapi import Request
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from api.access.identity import Identity
from api.access.route_scopes import scopes_of
from api.http.guarded_route import Guarded, Handler, check_scope
from trainyard.errors import ServiceError


class QuickRoute(Route, Guarded):
    """Answers the plain requests to a path; all others go on to the route that FastAPI has for it."""

    def __init__(self, method: str, path: str, answer: Handler, is_plain: Callable[[Request], bool]) -> None:
        """Make it.

        Args:
            method: of the requests.
            path: of the requests, without parameters.
            answer: answers a plain request.
            is_plain: tells one by its headers and query.
        """
        super().__init__(path, answer, methods=[method], include_in_schema=False)
        self._method, self._answer, self._is_plain = method, answer, is_plain
        self._needed = scopes_of(method, path)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """See Starlette."""
        if scope["type"] != "http" or scope["path"] != self.path or scope["method"] != self._method:
            return Match.NONE, {}
        if not self._is_plain(Request(scope)):
            return Match.NONE, {}
        return Match.FULL, {"endpoint": self.endpoint, "route": self, "path_params": {}}

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette."""
        request = Request(scope, receive, send)
        check_scope(request, self._needed)
        response = await self._answer(request)
        await response(scope, receive, send)


@dataclass(frozen=True, slots=True)
class Question:
    """A request that is answered without the app."""

    owner: str
    model: str
    top_k: int
    request_id: str
    began: float  #: by `time.perf_counter`


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer to a question; its status is 200."""

    headers: bytes  #: lines, each with its end
    body: bytes

    def encode(self, own: list[tuple[bytes, bytes]], *, closes: bool) -> bytes:
        """Return the whole answer.

        Args:
            own: headers that the server gives its answers, such as the date.
            closes: whether the connection is closed after it.
        """
        general = b"".join([b"%b: %b\r\n" % header for header in own])
        closing = b"connection: close\r\n" if closes else b""
        length = b"content-length: %d\r\n\r\n" % len(self.body)
        return b"".join((b"HTTP/1.1 200 OK\r\n", general, self.headers, closing, length, self.body))


class Answerer(Protocol):
    """Answers questions. Used in the event loop only."""

    def read(self, scope: Any, identity: Identity) -> Question | None:
        """Return the question of a request whose headers are there. None: the app must answer it."""
        ...

    def ask(
        self, question: Question, body: bytes, then: Callable[[Reply | ServiceError], None]
    ) -> Callable[[], object]:
        """Answer a question when its body is there.

        Returns:
            What is called when the client is gone; then `then` is not called any more.
        """
        ...


@dataclass(eq=False, slots=True)
class Asked:
    """A question that is not answered yet, on its connection."""

    question: Question
    cycle: RequestResponseCycle
    leave: Callable[[], None]  #: gives its place back
    give_up: Callable[[], object] | None = None  #: None: its body is not there yet
