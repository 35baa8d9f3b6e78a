"""The headers of every answer that keep browsers from guessing its type, framing it, and keeping JSON."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

JSON = "application/json"
#: Of an answer whose route says nothing else, and of its JSON in addition.
EVERY_ANSWER = {"content-security-policy": "frame-ancestors 'none'", "x-content-type-options": "nosniff"}
EVERY_JSON = {"cache-control": "no-store"}
#: Lines, each with its end, of an answer of JSON that is given before the app is called.
JSON_LINES = "".join(
    f"{name}: {value}\r\n" for name, value in ({"content-type": JSON} | EVERY_JSON | EVERY_ANSWER).items()
)


class SecurityHeaders:
    """Gives the app's answers these headers, where their routes allow nothing else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_json = headers.get("content-type", "").startswith(JSON)
                for name, value in (EVERY_ANSWER | EVERY_JSON if is_json else EVERY_ANSWER).items():
                    headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, send_marked)
