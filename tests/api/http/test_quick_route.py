from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from starlette.responses import PlainTextResponse, Response

from api.access.identity import ADMINISTRATOR, IDENTITY, Identity
from api.http import errors
from api.http.quick_route import QuickRoute
from trainyard.access.scopes import Scope
from trainyard.errors import InvalidImage


async def answer(request: Request) -> Response:
    if (body := await request.body()) == b"bad":
        raise InvalidImage("it is bad")
    return PlainTextResponse(b"quick: " + body)


def client_of(identity: Identity = ADMINISTRATOR) -> TestClient:
    app = FastAPI(routes=[QuickRoute("POST", "/predict", answer, lambda request: "odd" not in str(request.url))])
    errors.install(app)

    @app.post("/predict")
    @app.get("/predict")
    @app.post("/predict/more")
    async def ordinary() -> str:
        return "ordinary"

    async def with_identity(scope: Any, receive: Any, send: Any) -> None:
        await app(scope | {IDENTITY: identity}, receive, send)

    return TestClient(with_identity)


def test_a_plain_request_is_answered_at_once() -> None:
    assert client_of().post("/predict?model=a", content=b"image").text == "quick: image"


@pytest.mark.parametrize(
    ("method", "url"), [("POST", "/predict?odd=1"), ("GET", "/predict"), ("POST", "/predict/more")]
)
def test_any_other_request_goes_on_to_its_own_route(method: str, url: str) -> None:
    assert client_of().request(method, url).json() == "ordinary"


def test_an_error_is_answered_as_by_any_route() -> None:
    refused = client_of().post("/predict", content=b"bad")
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, "image_unreadable")


def test_who_lacks_the_scope_is_refused() -> None:
    refused = client_of(Identity("ann", frozenset({Scope.READ}))).post("/predict", content=b"image")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "scope_missing")


def test_it_stands_in_no_description_of_the_api() -> None:
    described = client_of().get("/openapi.json").json()["paths"]["/predict"]
    assert {method: operation["summary"] for method, operation in described.items()} == {
        "post": "Ordinary",
        "get": "Ordinary",
    }
