"""What the tus protocol asks of every request to `/uploads`, before its route sees it."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.http.admission import announced_bytes
from api.http.errors import build_response
from api.http.streamed_bodies import is_of_uploads, is_streamed
from trainyard.upload_errors import TusVersionUnsupported

VERSION = "1.0.0"
_MAY_LACK_VERSION = frozenset({"OPTIONS", "GET", "HEAD", "DELETE"})  #: so that curl needs no header
_OVERRIDES = frozenset({"PATCH", "DELETE", "HEAD"})


class Resumable:
    """Checks the protocol's version, names it in each answer, and lets a POST stand for another method.

    If a streamed body is answered before all of it has come, the connection is closed: the rest is not read.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_tus, has_ended = is_of_uploads(scope["path"]), announced_bytes(scope["headers"]) == 0
        if is_tus:
            scope = _with_method(scope)
        elif not is_streamed(scope["method"], scope["path"], scope["headers"]):
            await self._app(scope, receive, send)
            return

        async def receive_watched() -> Message:
            nonlocal has_ended
            message = await receive()
            has_ended = has_ended or not message.get("more_body", False)
            return message

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if is_tus:
                    headers["Tus-Resumable"] = VERSION
                if not has_ended:
                    headers["Connection"] = "close"
            await send(message)

        given = Headers(scope=scope).get("tus-resumable")
        if is_tus and given != VERSION and not (given is None and scope["method"] in _MAY_LACK_VERSION):
            refusal = build_response(TusVersionUnsupported(param="Tus-Resumable"), {"Tus-Version": VERSION})
            await refusal(scope, receive, send_marked)
            return
        await self._app(scope, receive_watched, send_marked)


def _with_method(scope: Scope) -> Scope:
    """Return the request with the method that it stands for: some networks let only GET and POST pass."""
    wanted = Headers(scope=scope).get("x-http-method-override", "").upper()
    if scope["method"] != "POST" or wanted not in _OVERRIDES:
        return scope
    return {**scope, "method": wanted}
