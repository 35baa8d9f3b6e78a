"""Compresses JSON for clients that ask for it; pure ASGI, inside of what answers HEAD.

Only bodies that are sent as a whole are compressed: streams stay as they are, so that each part arrives at once, and so
do pictures and archives, which would not get smaller. Answers to predictions are small and quick, so they are left
alone too. A large body is compressed in a thread, because the event loop never computes. An `ETag` names the content in
either form: it is only ever compared for `If-None-Match`, and a client keeps the form that it got.
"""

from __future__ import annotations

import zlib

import anyio.to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MIN_BYTES = 1000  #: a smaller body fits into one packet anyway
_IN_THREAD_BYTES = 32 * 1024  # takes about half a millisecond
_LEVEL = 1  # 1.3 MB of a series gets four times smaller in 45 ms; the highest level takes 870 ms for an eighth less
_NEVER = ("/predict", "/v2/")


class Compression:
    """Sends JSON of a thousand bytes or more with gzip where `Accept-Encoding` has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http" or is_left_alone(scope["path"]):
            await self._app(scope, receive, send)
            return
        accepts = accepts_gzip(Headers(scope=scope).get("accept-encoding", ""))
        start: Message | None = None

        async def send_smaller(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start" and _is_json(message):
                start = message  # until the body tells whether it is all of it
                return
            if start is not None and message["type"] == "http.response.body":
                begun, start = start, None
                body = message.get("body", b"")
                if not message.get("more_body") and len(body) >= MIN_BYTES:
                    headers = MutableHeaders(scope=begun)
                    headers.add_vary_header("Accept-Encoding")
                    if accepts:
                        message["body"] = await _compress(body)
                        headers["Content-Encoding"] = "gzip"
                        headers["Content-Length"] = str(len(message["body"]))
                await send(begun)
            await send(message)

        await self._app(scope, receive, send_smaller)


def is_left_alone(path: str) -> bool:
    """Whether answers at a path are sent as they are, whatever the client accepts."""
    return path.startswith(_NEVER) and not path.startswith("/predictions")


def accepts_gzip(accept_encoding: str) -> bool:
    """Whether a client accepts gzip; a weight of 0 means that it does not."""
    weights = dict(_read_coding(part) for part in accept_encoding.lower().split(","))
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _read_coding(part: str) -> tuple[str, float]:
    coding, _, parameters = part.partition(";")
    weight = parameters.replace(" ", "").removeprefix("q=")
    try:
        return coding.strip(), float(weight or 1)
    except ValueError:
        return coding.strip(), 0.0


def _is_json(message: Message) -> bool:
    headers = Headers(raw=message["headers"])
    return headers.get("content-type", "").startswith("application/json") and "content-encoding" not in headers


async def _compress(body: bytes) -> bytes:
    if len(body) < _IN_THREAD_BYTES:
        return _gzip(body)
    return await anyio.to_thread.run_sync(_gzip, body)


def _gzip(body: bytes) -> bytes:
    return zlib.compress(body, _LEVEL, wbits=31)  # 31: with gzip's header
