"""Each route has a row, and each row holds: asked of the server itself, with keys of one scope each."""

from __future__ import annotations

import socket
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI

from api.access.identity import Identity
from api.access.route_scopes import OPEN, ROUTES, scopes_of
from api.app import create_app
from api.http.guarded_route import GuardedRoute, check_all_guarded
from api.http.middleware import is_open
from tests.api.keyed import ADMIN_KEY, WITH_KEYS, add_key, client_for, client_of
from tests.api.served import Served, error_of
from tests.api.tus import TUS
from trainyard.access.scopes import Scope
from trainyard.settings import Settings

Serve = Callable[..., Served]
FILL = {
    "job_id": "job_0", "fine_tuning_job_id": "job_0",
    "checkpoint_id": "ckpt_0", "dataset_id": "ds_0", "upload_id": "upl_0", "prediction_id": "pred_0",
    "file_id": "ds_0", "model": "ckpt_0", "key_id": "key_0", "name": "nothing",
    "version": "1", "split": "train", "index": "0",
}  # fmt: skip


def operations(app: FastAPI) -> set[str]:
    return {f"{method.upper()} {path}" for path, found in app.openapi()["paths"].items() for method in found}


def ask(client: httpx.Client, route: str) -> httpx.Response:
    """Ask with ids of nothing, and bodies that are wrong."""
    method, path = route.split()
    headers = TUS if path.startswith("/uploads") else {}
    with client.stream(method, path.format(**FILL), headers=headers) as answer:  # one goes on without end
        if answer.status_code >= 400:
            answer.read()
        return answer


def test_every_route_has_a_row_and_every_row_a_route() -> None:
    assert set(ROUTES) == operations(create_app(Settings()))
    assert all(needed is OPEN or needed for needed in ROUTES.values()), "a row without a scope"


def test_an_app_with_a_route_that_is_not_guarded_does_not_start() -> None:
    app = create_app(Settings())

    @app.get("/backdoor")
    def open_backdoor() -> str:
        return "come in"

    with pytest.raises(TypeError, match="/backdoor is not guarded"):
        check_all_guarded(app.routes, is_open)


def test_a_guarded_route_without_a_row_can_not_be_made() -> None:
    with pytest.raises(LookupError, match="GET /nothing has no row"):
        GuardedRoute("/nothing", lambda: None)
    with pytest.raises(LookupError):
        scopes_of("GET", "/jobs/")


@pytest.mark.parametrize("scope", Scope)
def test_a_key_opens_what_its_scope_says_and_nothing_else(serve: Serve, scope: Scope) -> None:
    served = serve(**WITH_KEYS)
    with client_for(served, "ada", scope) as client:
        for route, needed in ROUTES.items():
            answer = ask(client, route)
            if needed is OPEN or Identity("ada", frozenset({scope})).may_any(needed):
                assert answer.status_code not in {401, 403}, (route, answer.text)
            elif route.split()[1].startswith("/v2"):
                assert answer.status_code == 403, route  # the protocol has a body of its own
            else:
                assert "scope" in error_of(answer, 403, "scope_missing")["message"], route


def test_without_a_key_only_the_open_ones_answer(serve: Serve) -> None:
    served = serve(**WITH_KEYS)
    with client_of(served, None) as client:
        for route, needed in ROUTES.items():
            assert (ask(client, route).status_code == 401) == (needed is not OPEN and route != "POST /session"), route


@pytest.mark.parametrize("content_type", ["application/zip", "multipart/form-data; boundary=x", "application/x-tar"])
def test_a_dataset_as_a_body_needs_the_scope_too(serve: Serve, content_type: str) -> None:
    served = serve(**WITH_KEYS)
    with client_for(served, "ada", Scope.READ, Scope.PREDICT) as client:
        answer = client.post("/datasets?name=x", content=b"PK", headers={"Content-Type": content_type})
        error_of(answer, 403, "scope_missing")


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_another_spelling_of_a_path_or_a_method_is_no_way_around(serve: Serve, method: str) -> None:
    served = serve(**WITH_KEYS)
    with client_for(served, "ada", Scope.PREDICT) as client:
        for path in ("/jobs", "/jobs?view=row", "/%6aobs", "/jobs#x"):
            assert client.request(method, path).status_code == 403, path
        for path in ("/jobs/", "//jobs", "/JOBS", "/./jobs", "/x/../jobs"):
            assert client.request(method, f"{served.url}{path}").status_code in {403, 404, 405}, path
        overridden = client.post("/uploads/upl_0", headers=TUS | {"X-HTTP-Method-Override": "DELETE"})
        assert overridden.status_code == 404, "predict may delete an upload"
    with client_for(served, "ada", Scope.READ) as client:
        overridden = client.post("/uploads/upl_0", headers=TUS | {"X-HTTP-Method-Override": "DELETE"})
        assert overridden.status_code == 403


def test_the_refusal_comes_before_the_body(serve: Serve) -> None:
    served = serve(**WITH_KEYS)
    _, key = add_key(served, "ada", Scope.READ)
    head = (
        f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\nAuthorization: Bearer {key}\r\n"
        "Content-Type: image/png\r\nExpect: 100-continue\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=30) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 403")


def test_who_may_not_ask_learns_nothing_of_what_is_there(serve: Serve) -> None:
    """403 comes before 404 and 422: an id is not even looked up."""
    served = serve(**WITH_KEYS)
    job_id = served.add_job()
    with client_for(served, "local", Scope.PREDICT) as client:
        there, not_there = (client.get(f"/jobs/{one}") for one in (job_id, "job_0"))
        messages = {error_of(answer, 403, "scope_missing")["message"] for answer in (there, not_there)}
        assert len(messages) == 1
        error_of(client.post("/jobs", content="{", headers={"Content-Type": "application/json"}), 403, "scope_missing")


def test_the_metrics_are_for_administrators(serve: Serve) -> None:
    served = serve(**WITH_KEYS)
    with client_for(served, "ada", Scope.ADMIN) as client:
        assert client.get("/metrics").status_code == 200
    for key in (ADMIN_KEY, "metrics-0123456789abcdef"):
        with client_of(served, key) as client:
            assert client.get("/metrics").status_code == 200
    with client_of(served, "metrics-0123456789abcdef") as client:
        assert client.get("/jobs").status_code == 401


def test_a_yard_without_keys_asks_for_no_scope(served: Served) -> None:
    for route in ROUTES:
        assert ask(served.http, route).status_code not in {401, 403}, route
