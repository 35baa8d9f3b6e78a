"""Begins a span for each request, within the trace that its client named; pure ASGI, only where traces are on."""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.observability.requests import code_of, route_of
from trainyard import tracing

UNTRACED = frozenset({"/healthz", "/readyz", "/metrics"})  #: asked for every few seconds


class TraceRequests:
    """Traces requests. It stands within `CountRequests`, whose notes it reads."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http" or scope["path"] in UNTRACED or not tracing.is_on():
            await self._app(scope, receive, send)
            return
        parent = Headers(scope=scope).get("traceparent")
        with tracing.span(scope["method"], parent=parent, kind="server") as span:

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _describe(span, scope, message["status"])
                await send(message)

            await self._app(scope, receive, send_traced)


def _describe(span: tracing.Span, scope: Scope, status: int) -> None:
    route, code = route_of(scope), code_of(scope)
    span.name(f"{scope['method']} {route}")
    span.set({"http.request.method": scope["method"], "http.route": route, "http.response.status_code": status})
    if code is not None:
        span.set({"error.type": code})
    if status >= 500:
        span.fail(code or str(status))
