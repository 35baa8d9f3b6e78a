import json
import socket
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from api.http.errors import PreparedAnswer, encode_refusal
from tests.api.served import Served, error_of
from trainyard.errors import PredictQueueFull, RequestTimeout, ServiceError
from trainyard.settings import Settings


def test_an_unknown_route_has_the_one_error_body(http: httpx.Client) -> None:
    error_of(http.get("/nothing"), 404, "route_not_found")


def test_a_wrong_method_has_the_one_error_body(http: httpx.Client) -> None:
    response = http.delete("/jobs")
    error_of(response, 405, "method_not_allowed")
    assert "GET" in response.headers["allow"]


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("/jobs/job_0", "job_not_found"),
        ("/jobs/%00", "job_not_found"),
        ("/jobs/job_0/checkpoints", "job_not_found"),
        ("/checkpoints/ckpt_0", "checkpoint_not_found"),
        ("/checkpoints/x/download", "checkpoint_not_found"),
        ("/datasets/ds_nope", "dataset_not_found"),
        ("/datasets/%00", "dataset_not_found"),
        ("/recipes/nope", "recipe_not_found"),
    ],
)
def test_an_unknown_thing_is_named(http: httpx.Client, path: str, code: str) -> None:
    assert error_of(http.get(path), 404, code)["param"]


@pytest.mark.parametrize(
    ("body", "code"),
    [("{", "json_invalid"), ("[" * 100_000, "body_unreadable"), (b'{"dataset": "\xff"}', "body_unreadable")],
)
def test_a_body_that_can_not_be_parsed_is_malformed(http: httpx.Client, body: str | bytes, code: str) -> None:
    response = http.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    assert error_of(response, 400, code)["param"] is None


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ("", "invalid_request", None),
        ("[]", "invalid_request", None),
        ("{}", "invalid_request", "dataset"),
        ('{"dataset": "digits", "nope": 1}', "invalid_request", "nope"),
        ('{"dataset": "digits", "priority": 101}', "invalid_request", "priority"),
        ('{"dataset": "digits", "webhook": "http://x"}', "invalid_request", "webhook"),
        ('{"dataset": "digits", "seed": NaN}', "invalid_request", "seed"),
        ('{"dataset": "digits", "seed": -1}', "invalid_request", "seed"),
        ('{"dataset": "digits", "seed": 9223372036854775808}', "invalid_request", "seed"),
        ('{"dataset": "digits", "seed": "3"}', "invalid_request", "seed"),
        ('{"dataset": "digits", "name": "a\\u0000b"}', "invalid_request", "name"),
        ('{"dataset": "digits", "name": "\\ud800"}', "invalid_request", "name"),
        ('{"dataset": "digits", "name": ""}', "invalid_request", "name"),
        ('{"dataset": "digits", "metadata": {"a": 1}}', "invalid_request", "metadata.a"),
        ('{"dataset": "digits", "overrides": {"lr": NaN}}', "config_invalid", "overrides.lr"),
        ('{"dataset": "digits", "overrides": {"lr": Infinity}}', "config_invalid", "overrides.lr"),
        ('{"dataset": "digits", "overrides": {"epochs": 0}}', "config_invalid", "overrides.epochs"),
        ('{"dataset": "digits", "overrides": {"nope": 0}}', "config_invalid", "overrides.nope"),
        ('{"dataset": "digits", "recipe": "nope"}', "recipe_unknown", "recipe"),
        ('{"dataset": "digits", "recipe": "\\ud800"}', "invalid_request", "recipe"),
    ],
)
def test_a_bad_body_is_refused_with_what_is_wrong(http: httpx.Client, body: str, code: str, param: str | None) -> None:
    response = http.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    assert error_of(response, 422, code)["param"] == param


@pytest.mark.parametrize("overrides", ['{"\\ud800": 1}', '{"lr": "\\udfff"}', '{"a": [[[[[[1]]]]]]}'])
def test_text_that_can_not_be_encoded_is_refused_not_echoed(http: httpx.Client, overrides: str) -> None:
    body = f'{{"dataset": "digits", "overrides": {overrides}}}'
    response = http.post("/jobs", content=body, headers={"Content-Type": "application/json"})
    assert error_of(response, 422, "invalid_request")["param"] in {"overrides", "overrides.lr"}


def test_an_unknown_dataset_in_the_body_is_404(http: httpx.Client) -> None:
    assert error_of(http.post("/jobs", json={"dataset": "nope"}), 404, "dataset_not_found")["param"] == "dataset"


def test_a_mistake_of_ours_is_500_and_tells_nothing(serve: Callable[..., Served]) -> None:
    def add_route(app: FastAPI) -> None:
        @app.get("/broken")
        def broken() -> None:
            raise RuntimeError("the secret")

    response = serve(add_route).http.get("/broken")
    error_of(response, 500, "internal_error")
    assert "secret" not in response.text


def test_a_database_that_is_gone_is_503_with_retry_after(served: Served, settings: Settings) -> None:
    with served.database.engine.connect() as connection:
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO lost")
        connection.commit()
    response = served.http.get("/jobs")
    error_of(response, 503, "database_unavailable")
    assert response.headers["retry-after"] == "1"
    assert "database" not in str(settings.data_dir) or str(settings.data_dir) not in response.text


def test_a_sane_request_id_comes_back_and_another_does_not(http: httpx.Client) -> None:
    assert http.get("/healthz", headers={"X-Request-ID": "abc-12345"}).headers["x-request-id"] == "abc-12345"
    for bad in ("short", "a" * 65, "has space 123", "new\tline-1"):
        assert http.get("/healthz", headers={"X-Request-ID": bad}).headers["x-request-id"].startswith("req_")


def test_the_server_does_not_name_itself(http: httpx.Client) -> None:
    response = http.get("/healthz")
    assert "server" not in response.headers
    assert "access-control-allow-origin" not in http.get("/healthz", headers={"Origin": "https://evil"}).headers


class TestBodyLimit:
    def test_a_declared_large_body_is_refused(self, serve: Callable[..., Served]) -> None:
        http = serve(max_body_bytes=2000).http
        error_of(http.post("/jobs", content=b"x" * 2001), 413, "body_too_large")

    def test_a_chunked_large_body_is_refused(self, serve: Callable[..., Served]) -> None:
        http = serve(max_body_bytes=2000).http
        response = http.post("/jobs", content=iter([b"x" * 1000] * 3), headers={"Content-Type": "application/json"})
        error_of(response, 413, "body_too_large")

    def test_a_large_upload_is_refused_while_it_is_parsed(self, serve: Callable[..., Served]) -> None:
        http = serve(max_upload_bytes=2000).http
        error_of(http.post("/predict", files={"file": b"x" * 5000}), 413, "body_too_large")
        response = http.post(
            "/predict", content=iter([b"x" * 1000] * 3), headers={"Content-Type": "application/octet-stream"}
        )
        error_of(response, 413, "body_too_large")

    def test_a_body_of_just_the_limit_passes(self, serve: Callable[..., Served]) -> None:
        http = serve(max_body_bytes=2000).http
        error_of(http.post("/jobs", content=b"x" * 2000), 422, "invalid_request")


class TestAuthentication:
    KEY = "0123456789abcdef0123"

    def test_a_key_is_asked_for_where_there_is_one(self, serve: Callable[..., Served]) -> None:
        from pydantic import SecretStr

        http = serve(admin_key=SecretStr(self.KEY)).http
        response = http.get("/jobs")
        error_of(response, 401, "unauthenticated")
        assert response.headers["www-authenticate"].startswith("Bearer")
        error_of(http.get("/jobs", headers={"Authorization": "Bearer wrong"}), 401, "unauthenticated")
        error_of(http.get("/jobs", headers={"Authorization": f"Basic {self.KEY}"}), 401, "unauthenticated")
        error_of(http.get("/nothing"), 401, "unauthenticated")
        assert http.get("/jobs", headers={"Authorization": f"Bearer {self.KEY}"}).status_code == 200
        for path in ("/healthz", "/readyz", "/docs", "/openapi.json"):
            assert http.get(path).status_code == 200, path
        assert http.get("/").status_code in {200, 404}  # with and without a page that was built

    def test_the_refusal_comes_before_the_body(self, serve: Callable[..., Served]) -> None:
        from pydantic import SecretStr

        served = serve(admin_key=SecretStr(self.KEY))
        with socket.create_connection(("127.0.0.1", served.port), timeout=10) as connection:
            connection.sendall(
                b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n"
                b"Content-Type: image/png\r\nExpect: 100-continue\r\n\r\n"
            )
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 401")
            while connection.recv(65536):
                pass  # and the connection is closed: nobody reads the rest


def read(answer: bytes) -> tuple[str, dict[str, str], bytes]:
    """The status line, the headers and the body of an answer, whose length must be right."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines)
    assert len(headers) == len(lines)
    assert int(headers["content-length"]) == len(body)
    return status, headers, body


@pytest.mark.parametrize("error", [PredictQueueFull(), PredictQueueFull("no place", retry_after_s=7), RequestTimeout()])
def test_a_refusal_says_what_its_error_says_and_names_its_request(error: ServiceError) -> None:
    for given, closes in (("mine-1234", True), ("another-id-of-mine", False)):
        status, headers, body = read(encode_refusal(error, given, closes=closes))
        assert status.startswith(f"HTTP/1.1 {error.status} ")
        assert headers["x-request-id"] == given
        assert headers.get("connection") == ("close" if closes else None)
        assert headers.get("retry-after") == (None if error.retry_after_s is None else str(error.retry_after_s))
        told = json.loads(body)["error"]
        assert told == {
            "type": error.type,
            "code": error.code,
            "message": error.message,
            "param": None,
            "request_id": given,
        }


def test_prepared_answers_have_the_headers_of_the_app_s_own(served: Served) -> None:
    of_app = served.http.head("/healthz")  # the same as for GET, but from the app
    live = PreparedAnswer(200, b'{"status":"ok"}')
    status, headers, body = read(live.encode("", [(b"date", of_app.headers["date"].encode())]))
    assert status == "HTTP/1.1 200 OK"
    assert json.loads(body) == served.http.get("/healthz?from=here").json() == {"status": "ok"}
    assert headers.keys() == of_app.headers.keys()
    assert {**headers, "x-request-id": ""} == {**of_app.headers, "x-request-id": ""}

    of_app = served.http.get("/nothing")
    error_of(of_app, 404, "route_not_found")
    _, headers, _ = read(encode_refusal(RequestTimeout(), "", closes=False))
    assert headers.keys() == of_app.headers.keys() - {"date"}
