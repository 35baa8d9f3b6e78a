"""What happens to every request: HEAD, clients that leave, and what the document says of refusals."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable

import pytest
from fastapi import FastAPI

from api.app import create_app
from tests.api.http.test_connections import POST
from tests.api.served import Served, error_of, wait_until
from trainyard.settings import Settings


def test_head_answers_like_get_without_the_body(served: Served) -> None:
    job_id = served.add_job()
    checkpoint = served.add_checkpoint(job_id, 1)
    paths = ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/jobs", "/datasets", "/recipes", "/recipes/quick"]
    paths += [f"/jobs/{job_id}{rest}" for rest in ("", "/events", "/metrics", "/logs", "/curves.png", "/checkpoints")]
    paths += [
        "/checkpoints",
        f"/checkpoints/{checkpoint.id}",
        f"/checkpoints/{checkpoint.id}/download",
        "/workers",
        "/queue",
    ]
    for path in paths:
        get, head = served.http.get(path), served.http.head(path)
        assert (head.status_code, head.content) == (get.status_code, b""), path
        for name in ("content-type", "content-length", "etag"):
            assert head.headers.get(name) == get.headers.get(name), (path, name)


def test_every_get_of_the_document_knows_head(served: Served) -> None:
    app: FastAPI = served.app
    for path, operations in app.openapi()["paths"].items():
        status = served.http.head(path.replace("{job_id}", "job_0")).status_code
        assert (status != 405) == ("get" in operations), path


def test_head_of_an_event_stream_ends_at_once(served: Served) -> None:
    job_id = served.add_job()
    answer = served.http.head(f"/jobs/{job_id}/events", headers={"Accept": "text/event-stream"}, timeout=5)
    assert answer.headers["content-type"].startswith("text/event-stream")
    wait_until(lambda: served.http.get("/healthz").status_code == 200)


def test_a_wrong_method_says_that_head_is_known(served: Served) -> None:
    response = served.http.put("/jobs")
    error_of(response, 405, "method_not_allowed")
    assert response.headers["allow"] == "GET, HEAD, POST"


@pytest.mark.parametrize("content_type", [b"image/png", b"multipart/form-data; boundary=x"])
def test_a_client_that_leaves_is_no_error(
    served: Served, caplog: pytest.LogCaptureFixture, content_type: bytes
) -> None:
    caplog.set_level(logging.INFO)
    request = POST.replace(b"image/png", content_type) + b"Content-Length: 1000\r\n\r\n--x"
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as client:
        client.sendall(request)
        wait_until(lambda: any(connection.is_receiving for connection in served.connections))
    wait_until(lambda: not served.connections)
    wait_until(lambda: "a client left" in caplog.text)
    assert [record for record in caplog.records if record.levelno >= logging.WARNING or record.exc_info] == []


def test_every_refusal_in_the_document_is_json(serve: Callable[..., Served]) -> None:
    for path, operations in create_app(Settings()).openapi()["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert set(answer["content"]) == {"application/json"}, (path, status)
                if path.endswith("/logs") and status == "200":
                    assert set(answer["content"]) == {"text/plain"}
