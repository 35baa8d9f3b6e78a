"""Counts every answered request, and how long its answer took to begin; pure ASGI, around everything else.

What a request is counted as is found out below it: the router finds its route, and the response of an error knows its
code. They leave it in the request's notes.
"""

from __future__ import annotations

import re
import time
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.observability.metrics import AnswerLabels, Metrics
from trainyard.database.ids import has_form, new_id
from trainyard.errors import ServiceError

NOTES = "trainyard.notes"  #: key in the scope: a dictionary that all copies of the scope share
CODE = "code"  #: key in the notes: the code of the error that is answered
ROUTE = "route"  #: key in the notes: the route's path

_SANE_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})
_PREDICT, _INFER = "/predict", "/infer"


def identify(given: str) -> str:
    """Return the id of a request: the one that its client sent if it is well formed, else a new one."""
    return given if _SANE_ID.fullmatch(given) else new_id("req")


def note(scope: Scope, key: str, value: str) -> None:
    """Leave a note for the counting of a request; without anybody who counts it is forgotten."""
    notes: MutableMapping[str, str] | None = scope.get(NOTES)
    if notes is not None:
        notes[key] = value


def route_of(scope: Scope) -> str:
    """Return the path of the route that answers a request, with names in place of ids, or `none`."""
    return str(scope.get(NOTES, {}).get(ROUTE) or getattr(scope.get("route"), "path", "none"))


def code_of(scope: Scope) -> str | None:
    """Return the code of the error that a request is answered with. None: there is none, or it is not known."""
    code: str | None = scope.get(NOTES, {}).get(CODE)
    return code


class CountRequests:
    """Counts requests, and times their answers' first byte."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the class."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope[NOTES] = {}
        began, answered = time.perf_counter(), False

        async def send_counted(message: Message) -> None:
            nonlocal answered
            if message["type"] == "http.response.start" and not answered:
                answered = True
                self._count(scope, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, send_counted)

    def _count(self, scope: Scope, status: int, seconds: float) -> None:
        route = route_of(scope)
        method = scope["method"] if scope["method"] in _METHODS else "other"
        code = code_of(scope) or ("ok" if status < 400 else "client_gone" if status == 499 else "other")
        self._metrics.answered(method=method, route=route, status=status, code=code, seconds=seconds)
        if method == "POST" and (route == _PREDICT or route.endswith(_INFER)):
            self._metrics.predicted(model=kind_of_model(_named_model(scope)), code=code)


def label_refusal(scope: Scope, error: ServiceError) -> AnswerLabels:
    """Return what a refusal is counted by: of all routes only that of predictions is known there."""
    method = scope.get("method", "other")
    if method != "POST" or scope["path"] != _PREDICT:
        return AnswerLabels(method if method in _METHODS else "other", "none", error.status, error.code)
    model = kind_of_model(_named_model(scope)) if scope["query_string"] else "latest"
    return AnswerLabels(method, _PREDICT, error.status, error.code, model)


def kind_of_model(reference: str) -> str:
    """Return how a request names its model: `latest`, `job`, `checkpoint`, or `alias`."""
    if reference == "latest":
        return reference
    if has_form(reference, "ckpt"):
        return "checkpoint"
    return "job" if has_form(reference.partition("@")[0], "job") else "alias"


def _named_model(scope: Scope) -> str:
    parameters: dict[str, Any] = scope.get("path_params") or {}
    if names := [value for name, value in parameters.items() if name in {"model", "model_name", "name"}]:
        return str(names[0])
    given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("model", [])
    return given[-1] if given else "latest"
