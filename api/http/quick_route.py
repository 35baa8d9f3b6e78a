"""A route that answers plain requests before FastAPI looks for theirs: that costs more than to decode a small image."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import Request
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from api.access.route_scopes import scopes_of
from api.http.guarded_route import Guarded, Handler, check_scope


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
