from __future__ import annotations

import gzip
import http.client
import json
import threading
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from starlette.middleware import Middleware
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse

from api.http import compression
from api.http.compression import Compression, accepts_gzip, is_left_alone
from api.http.validators import answer_json
from tests.api.served import Served

LARGE = {"data": ["x" * 20] * 100}
GZIP = {"Accept-Encoding": "gzip"}


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        *(("gzip", True), ("GZIP", True), ("br, gzip;q=0.5", True), ("*", True), ("gzip;q=1.0, identity", True)),
        *(("", False), ("identity", False), ("gzip;q=0", False), ("*;q=0", False), ("gzip;q=0, *", False)),
        *(("gzip;q=x", False), ("xgzip", False), ("gzip ; q = 0.000", False), ("br", False)),
    ],
)
def test_what_a_client_accepts(value: str, accepted: bool) -> None:
    assert accepts_gzip(value) is accepted


@pytest.mark.parametrize(
    ("path", "alone"),
    [
        ("/predict", True),
        ("/v2/models/x/infer", True),
        ("/predictions", False),
        ("/predictions/pred_1", False),
        ("/jobs", False),
    ],
)
def test_answers_to_predictions_are_left_alone(path: str, alone: bool) -> None:
    assert is_left_alone(path) is alone


def build_app() -> FastAPI:
    app = FastAPI(middleware=[Middleware(Compression)])

    async def parts() -> AsyncIterator[str]:
        yield json.dumps(LARGE)
        yield ""

    answers: dict[str, Response] = {
        "/large": JSONResponse(LARGE),
        "/small": JSONResponse({}),
        "/text": PlainTextResponse("x" * 5000),
        "/tagged": answer_json(json.dumps(LARGE).encode(), None),
        "/huge": JSONResponse(LARGE | {"more": "y" * 100_000}),
        "/packed": Response(b"x" * 5000, media_type="application/json", headers={"Content-Encoding": "br"}),
        "/predict": JSONResponse(LARGE),
    }
    for path, answer in answers.items():
        app.add_api_route(path, lambda answer=answer: answer, response_class=Response)
    app.add_api_route("/streamed", lambda: StreamingResponse(parts(), media_type="application/json"))
    return app


async def get(path: str, headers: dict[str, str] = GZIP) -> httpx.Response:
    transport = httpx.ASGITransport(build_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://yard") as client:
        request = client.build_request("GET", path, headers=headers)
        response = await client.send(request)
    return response


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/large", "/tagged", "/huge"])
async def test_json_is_compressed_for_who_asks(path: str) -> None:
    packed, plain = await get(path), await get(path, {"Accept-Encoding": "identity"})
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content) / 2
    assert packed.json() == plain.json()
    assert "content-encoding" not in plain.headers
    assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/small", "/text", "/streamed", "/predict"])
async def test_all_else_is_sent_as_it_is(path: str) -> None:
    assert "content-encoding" not in (await get(path)).headers


@pytest.mark.anyio
async def test_a_tag_names_the_content_in_either_form() -> None:
    packed, plain = await get("/tagged"), await get("/tagged", {"Accept-Encoding": "identity"})
    assert packed.headers["etag"] == plain.headers["etag"]


@pytest.mark.anyio
async def test_a_large_body_is_compressed_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[threading.Thread] = []
    pack = compression._gzip

    def watched(body: bytes) -> bytes:
        threads.append(threading.current_thread())
        return pack(body)

    monkeypatch.setattr(compression, "_gzip", watched)
    await get("/large")
    await get("/huge")
    assert [thread is threading.main_thread() for thread in threads] == [True, False]


def test_of_the_whole_api(served: Served) -> None:
    """A job by GET and HEAD, and 304 for its tag."""
    job_id = served.http.post("/jobs", json={"dataset": "digits"}).json()["id"]
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=10)

    def ask(method: str, **headers: str) -> tuple[http.client.HTTPResponse, bytes]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/jobs/{job_id}", headers=named)
        response = connection.getresponse()
        return response, response.read()

    packed, body = ask("GET", Accept_Encoding="gzip, deflate, br")
    assert json.loads(gzip.decompress(body))["id"] == job_id
    head, nothing = ask("HEAD", Accept_Encoding="gzip, deflate, br")
    assert (head.headers["Content-Length"], nothing) == (packed.headers["Content-Length"], b"")
    assert ask("GET", If_None_Match=packed.headers["ETag"])[0].status == 304
    plain, body = ask("GET")
    assert (json.loads(body)["id"], plain.headers["Content-Encoding"]) == (job_id, None)
    connection.close()
