"""A route whose plain requests skip what FastAPI does for each: that costs more than to decode a small image."""

from __future__ import annotations

from fastapi import Request, Response

from api.http.guarded_route import GuardedRoute, Handler

ATTRIBUTE = "answer_plainly"  #: of the endpoint: takes the request, and returns None where it is not a plain one


class QuickRoute(GuardedRoute):
    """Lets the endpoint's own `answer_plainly` answer what that recognises; all else is answered as by any route."""

    def build_handler(self) -> Handler:
        """See `GuardedRoute`."""
        ordinary = super().build_handler()

        async def handle(request: Request) -> Response:
            response: Response | None = await getattr(self.endpoint, ATTRIBUTE)(request)
            return await ordinary(request) if response is None else response

        return handle
