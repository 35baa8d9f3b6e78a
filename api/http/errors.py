"""Every refusal has the same body: `{"error": {"type", "code", "message", "param", "request_id"}}`.

Errors of lower layers are translated only here: the database's `ServiceError`, the core's `CoreError`, a body that does
not fit its schema, and what the framework itself refuses.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from sqlalchemy.exc import TimeoutError as PoolExhausted
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.routing import Match
from starlette.types import Receive, Scope, Send

from alexnet_core import errors as core
from api.access.security_headers import JSON, JSON_LINES
from api.observability.requests import CODE, note
from trainyard.access.refusals import RateLimited, ScopeMissing
from trainyard.errors import (
    BeyondTheEnd,
    BodyUnreadable,
    CheckpointIncompatible,
    DatabaseUnavailable,
    InvalidConfig,
    InvalidRequest,
    JsonInvalid,
    MethodNotAllowed,
    NotFound,
    ServiceError,
    TooLarge,
    Unauthenticated,
    UnknownRecipe,
    UnsupportedMedia,
)
from trainyard.image_refusals import refuse_image
from trainyard.logs import request_id

log = logging.getLogger(__name__)

SECRET_FIELDS = frozenset({"key"})  #: of a body: no message repeats what was sent in them
_ID = "{request-id}"  # stands in a prepared answer where the id is to be
MAX_ECHO = 80  # characters of a wrong value that a message repeats


class ErrorDetail(BaseModel):
    """What went wrong, and what to do."""

    type: str
    code: str
    message: str
    param: str | None
    request_id: str | None


class ErrorBody(BaseModel):
    """The body of every answer that is not a success."""

    error: ErrorDetail


Responses = dict[int | str, dict[str, Any]]


def responses(*kinds: type[ServiceError], success: Responses | None = None) -> Responses:
    """Return the entries of a route's OpenAPI `responses` for its errors, besides its own."""
    by_status: dict[int | str, list[str]] = {}
    listed: list[type[ServiceError]] = [*kinds, Unauthenticated, ScopeMissing, RateLimited, ServiceError]
    for kind in listed:
        by_status.setdefault(kind.status, []).append(f"`{kind.code}`")
    refusals: Responses = {
        status: {"model": ErrorBody, "description": " or ".join(dict.fromkeys(codes))}
        for status, codes in by_status.items()
    }
    return (success or {}) | refusals


def install(app: FastAPI) -> None:
    """Make every error that reaches the app answered with the same body."""
    app.add_exception_handler(ServiceError, _answer)
    app.add_exception_handler(core.CoreError, _answer)
    app.add_exception_handler(RequestValidationError, _answer)
    app.add_exception_handler(HTTPException, _answer)
    app.add_exception_handler(PoolExhausted, _answer)


async def _answer(request: Request, exc: Exception) -> Response:
    error = translate(exc)
    headers = dict(exc.headers or {}) if isinstance(exc, HTTPException) else {}
    if error.status == 405:
        headers["Allow"] = ", ".join(_methods_at(request))
    if error.status >= 500 and error.status not in (503, 504):  # these two tell of load, and are part of the contract
        log.error("a request failed: %s", error.code, exc_info=exc)
    return build_response(error, headers)


def _methods_at(request: Request) -> list[str]:
    """Return all methods of this path; the framework names only those of the first route."""
    return [
        method
        for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")
        if any(
            route.matches({**request.scope, "method": "GET" if method == "HEAD" else method})[0] is Match.FULL
            for route in request.app.routes
        )
    ]


def build_response(error: ServiceError, headers: dict[str, str] | None = None) -> Response:
    """Build the response for an error."""
    sent = dict(headers or {})
    if error.retry_after_s is not None:
        sent["Retry-After"] = str(error.retry_after_s)
    if error.status == 401:
        sent["WWW-Authenticate"] = 'Bearer realm="trainyard"'
    if isinstance(error, BeyondTheEnd) and error.size_bytes is not None:
        sent["Content-Range"] = f"bytes */{error.size_bytes}"
    return _ErrorResponse(error, sent)


def is_of_open_inference(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol, whose refusals have a body of their own."""
    return path == "/v2" or path.startswith("/v2/")


class _ErrorResponse(Response):
    """Sends an error, and leaves its code in the request's notes. The routes of a protocol have its own body."""

    def __init__(self, error: ServiceError, headers: dict[str, str]) -> None:
        self._code, self._message = error.code, describe(error)["message"]
        super().__init__(encode(error), error.status, headers, JSON)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See Starlette."""
        note(scope, CODE, self._code)
        if is_of_open_inference(scope["path"]):
            self.body = json.dumps({"error": self._message}).encode()
            self.headers["Content-Length"] = str(len(self.body))
        await super().__call__(scope, receive, send)


def encode(error: ServiceError) -> bytes:
    """Encode the body as JSON, in plain ASCII, so that no text in it can make the encoding fail."""
    return json.dumps({"error": describe(error)}).encode()


def encode_refusal(error: ServiceError, identity: str, *, closes: bool) -> bytes:
    """Return the whole answer that refuses a request before it reaches the app.

    Args:
        error: why.
        identity: of the request.
        closes: whether the connection is closed after it.
    """
    kind = type(error)
    prepared = _prepare(kind, error.message, error.param, error.retry_after_s, closes)  # type: ignore[arg-type]
    return prepared.encode(identity)


@lru_cache(maxsize=256)  # messages may be of any number
def _prepare(
    kind: type[ServiceError], message: str, param: str | None, retry_after_s: int | None, closes: bool
) -> PreparedAnswer:
    token = request_id.set(_ID)
    try:
        body = encode(kind(message, param=param, retry_after_s=retry_after_s))
    finally:
        request_id.reset(token)
    return PreparedAnswer(kind.status, body, retry_after_s=retry_after_s, closes=closes)


class PreparedAnswer:
    """An answer of JSON whose bytes are made once: nothing but a request's id differs between those that say the same.

    The server gives it before the app is called. It has the headers that the app's own answers have.
    """

    def __init__(self, status: int, body: bytes, *, retry_after_s: int | None = None, closes: bool = False) -> None:
        self._parts = body.split(_ID.encode())
        self._length = sum(map(len, self._parts))
        more = ("" if retry_after_s is None else f"retry-after: {retry_after_s}\r\n") + "connection: close\r\n" * closes
        self._start = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\ncontent-length: ".encode()
        self._middle = f"\r\n{JSON_LINES}{more}x-request-id: ".encode()

    def encode(self, identity: str, own: Sequence[tuple[bytes, bytes]] = ()) -> bytes:
        """Return it for a request.

        Args:
            identity: of the request.
            own: headers that the server gives its answers, such as the date.
        """
        name = identity.encode()
        length = self._length + (len(self._parts) - 1) * len(name)
        body = name.join(self._parts)
        more = b"".join([b"\r\n%b: %b" % header for header in own])
        return b"%b%d%b%b%b\r\n\r\n%b" % (self._start, length, self._middle, name, more, body)


def describe(error: ServiceError) -> dict[str, Any]:
    """Return the object under `error`."""
    return {
        "type": error.type,
        "code": error.code,
        "message": error.message.encode("utf-8", "backslashreplace").decode(),
        "param": error.param,
        "request_id": request_id.get(),
    }


def translate(exc: Exception) -> ServiceError:
    """Return the refusal for an error of a lower layer. An unknown one becomes a 500 without details."""
    if isinstance(exc, ServiceError):
        return exc
    if isinstance(exc, RequestValidationError):
        return _from_validation(exc.errors())
    if isinstance(exc, core.CoreError):
        return _from_core(exc)
    if isinstance(exc, PoolExhausted):
        return DatabaseUnavailable()
    if isinstance(exc, HTTPException):
        return _from_framework(exc)
    return ServiceError()


def _from_core(exc: core.CoreError) -> ServiceError:
    message, param = str(exc), getattr(exc, "param", None)
    if isinstance(exc, core.UnknownRecipe):
        return UnknownRecipe(message, param=param or "recipe")
    if isinstance(exc, core.ConfigError):
        return InvalidConfig(message, param=param)
    if isinstance(exc, core.ImageError):
        return refuse_image(exc)
    if isinstance(exc, core.CheckpointIncompatible):
        return CheckpointIncompatible(param="model")
    return ServiceError()


def _from_framework(exc: HTTPException) -> ServiceError:
    if exc.status_code == 404:
        return NotFound()
    if exc.status_code == 405:
        return MethodNotAllowed()
    if exc.status_code == 413:
        return TooLarge()
    if exc.status_code == 415:
        return UnsupportedMedia()
    if exc.status_code < 500:
        return BodyUnreadable(str(exc.detail)[:200] if exc.detail else None)
    return ServiceError()


def _from_validation(problems: Sequence[Any]) -> ServiceError:
    first = problems[0]
    if first["type"] == "json_invalid":
        return JsonInvalid(f"the body is not JSON: {first.get('ctx', {}).get('error', 'it can not be parsed')}")
    place, *names = first["loc"]
    if place == "query":
        names = names[:1]  # a parameter that may be repeated has one name, however often it was given
    param = ".".join(str(name) for name in names)[:MAX_ECHO] or None
    echo = "" if param is None or param in SECRET_FIELDS else _echo(first.get("input"))
    message = f"{param or 'the body'}{echo}: {_lower_first(first['msg'])}"
    if first["type"] == "extra_forbidden":
        message = f"{param}: there is no such field, or it is not built yet: leave it out"
    if len(problems) > 1:
        message += f" (and {len(problems) - 1} more)"
    return InvalidRequest(message, param=param)


def _lower_first(text: str) -> str:
    text = text.removeprefix("Value error, ")
    return text[:1].lower() + text[1:]


def _echo(value: object) -> str:
    """Return the wrong value if it can be shown in a few characters."""
    if isinstance(value, bool | float | str) or (isinstance(value, int) and abs(value) < 10**30):
        text = ascii(value)
        return f" is {text if len(text) <= MAX_ECHO else text[:MAX_ECHO] + '…'}"
    return ""
