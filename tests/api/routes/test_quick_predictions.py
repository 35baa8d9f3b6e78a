"""Predictions without the app: the same answers, and every check of the app."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from pydantic import SecretStr

from tests.api.served import FakeRuntime, Served, error_of, png, wait_until

PNG = {"Content-Type": "image/png"}
Serve = Callable[..., Served]


@pytest.fixture
def trained(served: Served) -> Served:
    served.add_checkpoint(served.add_job(), 1)
    return served


def count_by_app(served: Served) -> list[str]:
    """Have the app note the paths of what it answers."""
    paths: list[str] = []
    inner = served.app.middleware_stack
    assert inner is not None

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        await inner(scope, receive, send)

    served.app.middleware_stack = noting
    return paths


def sent_by(served: Served, request: bytes) -> bytes:
    with closing(socket.create_connection(("127.0.0.1", served.port), timeout=10)) as client:
        client.sendall(request)
        whole = b""
        while piece := client.recv(65536):
            whole += piece
        return whole


@pytest.mark.parametrize("query", ["", "?top_k=2", "?model=latest&top_k=999", "?model=production"])
def test_an_answer_is_that_of_the_app(trained: Served, query: str) -> None:
    checkpoint = trained.http.get("/checkpoints").json()["data"][0]["id"]
    assert trained.http.put("/aliases/production", json={"checkpoint": checkpoint}).status_code in (200, 201)
    by_app = count_by_app(trained)
    quick = trained.http.post(f"/predict{query}", content=png(200), headers=PNG)
    assert by_app == []
    usual = trained.http.post(f"/predict{query}", content=png(200), headers=PNG | {"X-Trainyard-Sticky": "me"})
    assert by_app == ["/predict"]
    assert list(quick.json()) == list(usual.json())
    assert list(quick.json()["timing"]) == list(usual.json()["timing"])
    assert quick.text.partition("timing")[0] == usual.text.partition("timing")[0]
    own = {"x-request-id", "content-length", "date"}
    assert own <= set(quick.headers)
    assert {name: value for name, value in quick.headers.items() if name not in own} == {
        name: value for name, value in usual.headers.items() if name not in own
    }
    named = trained.http.post("/predict", content=png(), headers=PNG | {"X-Request-ID": "my-request-1"})
    assert named.headers["x-request-id"] == "my-request-1"


@pytest.mark.parametrize(
    ("query", "headers"),
    [
        ("?calibrated=false", {}),
        ("?top_k=0", {}),
        ("?top_k=1000", {}),
        ("", {"X-Trainyard-Timeout-Ms": "9000"}),
        ("", {"Origin": "http://localhost"}),
        ("", {"Host": "elsewhere.example"}),
        ("", {"Content-Type": "text/plain"}),
        ("", {"Expect": "100-continue"}),
    ],
)
def test_what_is_unusual_is_left_to_the_app(trained: Served, query: str, headers: dict[str, str]) -> None:
    by_app = count_by_app(trained)
    trained.http.post(f"/predict{query}", content=png(), headers=PNG | headers)
    trained.http.post("/predict", content=iter([png()]), headers=PNG)  # in chunks
    trained.http.post("/predict", content=png() + b"x" * 70_000, headers=PNG)
    assert by_app == 3 * ["/predict"]


def test_errors_are_the_apps(trained: Served, serve: Serve) -> None:
    by_app = count_by_app(trained)
    bad = trained.http.post("/predict", content=png()[:-30], headers=PNG)
    error_of(bad, 422, "image_unreadable")
    error_of(trained.http.post("/predict", content=b"", headers=PNG), 422, "image_unreadable")
    missing = trained.http.post("/predict?model=nobody", content=png(), headers=PNG)
    assert error_of(missing, 404, "alias_not_found")["param"] == "model"
    assert by_app == []


def test_requests_are_counted_as_those_of_the_app(trained: Served) -> None:
    for headers in (PNG, PNG | {"X-Trainyard-Sticky": "me"}):
        trained.http.post("/predict", content=png(), headers=headers)
    wait_until(lambda: "trainyard_predict_batch_images_count 2.0" in trained.http.get("/metrics").text)
    text = trained.http.get("/metrics").text
    assert 'trainyard_http_requests_total{code="ok",method="POST",route="/predict",status="200"} 2.0' in text
    assert 'trainyard_predict_requests_total{code="ok",model="latest"} 2.0' in text
    assert 'trainyard_http_request_duration_seconds_count{method="POST",route="/predict"} 2.0' in text
    assert 'trainyard_predict_decode_seconds_count{image="small"} 2.0' in text
    assert "trainyard_predict_queued_images 0.0" in text


def test_a_yard_with_keys_refuses_who_has_none(serve: Serve) -> None:
    served = serve(admin_key=SecretStr("a" * 40))
    by_app = count_by_app(served)
    error_of(served.http.post("/predict", content=png(), headers=PNG), 401, "unauthenticated")
    assert by_app == ["/predict"]


def test_requests_in_pieces_behind_each_other_and_the_last_of_a_connection(trained: Served) -> None:
    image = png()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n" % len(
        image
    )
    answered = sent_by(trained, head + b"\r\n" + image + head + b"Connection: close\r\n\r\n" + image)
    assert answered.count(b"HTTP/1.1 200 OK") == 2
    assert answered.count(b"connection: close") == 1
    old = head.replace(b"HTTP/1.1", b"HTTP/1.0")
    assert sent_by(trained, old + b"\r\n" + image).count(b"200 OK") == 1
    with closing(socket.create_connection(("127.0.0.1", trained.port), timeout=10)) as client:
        for piece in (head, b"\r\n", image[:20], image[20:]):
            client.sendall(piece)
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.usefixtures("only_the_thread_computes")
def test_a_client_that_leaves_gives_its_place_back(trained: Served, runtime: FakeRuntime) -> None:
    assert trained.http.post("/predict", content=png(), headers=PNG).status_code == 200
    import threading

    runtime.gate = threading.Event()
    places = trained.door.admission._free_places
    image = png()
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(
        image
    )
    batches = len(runtime.batches)
    with closing(socket.create_connection(("127.0.0.1", trained.port), timeout=10)) as first:
        first.sendall(head + image)
        wait_until(lambda: len(runtime.batches) == batches + 1)  # and the next one waits behind it
        with closing(socket.create_connection(("127.0.0.1", trained.port), timeout=10)) as second:
            second.sendall(head + image)
            wait_until(lambda: trained.door.admission._free_places == places - 2)
        wait_until(lambda: trained.door.admission._free_places == places - 1)
        runtime.gate.set()
        assert first.recv(65536).startswith(b"HTTP/1.1 200")
    assert len(runtime.batches) == batches + 1, "nothing was computed for who is gone"
    wait_until(lambda: "client_gone" in trained.http.get("/metrics").text)
    assert "trainyard_predict_queued_images 0.0" in trained.http.get("/metrics").text
