"""What is sent to a tracking server, within its limits, and what its refusals mean."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from trainyard.tracking.mlflow_server import MlflowError, MlflowServer, MlflowSettings

Answer = Callable[[httpx.Request], httpx.Response]


def server(answer: Answer, uri: str = "http://runs.test/mlflow", **settings: Any) -> MlflowServer:
    return MlflowServer(uri, MlflowSettings(**settings), transport=httpx.MockTransport(answer))


def keep_bodies(bodies: list[dict[str, Any]]) -> Answer:
    def answer(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        return httpx.Response(200, json={})

    return answer


def test_batches_keep_to_the_limits_of_a_request() -> None:
    bodies: list[dict[str, Any]] = []
    with server(keep_bodies(bodies)) as one:
        metrics = [{"key": "loss", "value": 1.0, "timestamp": 0, "step": step} for step in range(2001)]
        assert one.log_metrics("r", iter(metrics)) == 2001
        one.log_parameters("r", {f"p{number}": "x" * 9000 for number in range(250)})
        one.set_tags("r", {f"t{number}": "x" * 9000 for number in range(101)})
    assert [len(body.get("metrics", [])) for body in bodies[:3]] == [1000, 1000, 1]
    assert [len(body.get("params", [])) for body in bodies[3:6]] == [100, 100, 50]
    assert [len(body.get("tags", [])) for body in bodies[6:]] == [100, 1]
    assert {len(entry["value"]) for body in bodies for entry in body.get("params", [])} == {500}
    assert {len(entry["value"]) for body in bodies for entry in body.get("tags", [])} == {5000}
    assert [entry["step"] for body in bodies for entry in body.get("metrics", [])] == list(range(2001))


@pytest.mark.parametrize(
    ("uri", "settings", "header"),
    [
        ("http://runs.test", {}, None),
        ("http://runs.test", {"tracking_token": SecretStr("abc")}, "Bearer abc"),
        ("http://runs.test", {"tracking_username": "u", "tracking_password": SecretStr("p")}, "u:p"),
        ("http://u:p@runs.test", {"tracking_token": SecretStr("abc")}, "u:p"),
        ("http://a%40b:p%3A%20%2F@runs.test", {}, "a@b:p: /"),
    ],
)
def test_a_user_or_a_token_is_sent(uri: str, settings: dict[str, Any], header: str | None) -> None:
    seen: list[str | None] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("Authorization"))
        return httpx.Response(200, json={"runs": []})

    if header is not None and not header.startswith("Bearer"):
        header = f"Basic {base64.b64encode(header.encode()).decode()}"
    with server(answer, uri, **settings) as one:
        assert one.list_runs("0", "trainyard.job", "job_1") == []
    assert seen == [header]


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        (httpx.Response(401, text="no"), "mlflow_not_allowed", "MLFLOW_TRACKING_TOKEN"),
        (httpx.Response(403, json={"error_code": "PERMISSION_DENIED"}), "mlflow_not_allowed", "may write"),
        (httpx.Response(404, text="<html>"), "mlflow_not_understood", "/mlflow/api/2.0/mlflow/runs/search with 404"),
        (httpx.Response(200, text="<html>"), "mlflow_not_understood", "is this a tracking server"),
        (
            httpx.Response(400, json={"error_code": "INVALID_PARAMETER_VALUE", "message": "no such field"}),
            "mlflow_refused",
            "INVALID_PARAMETER_VALUE: no such field",
        ),
    ],
)
def test_a_refusal_says_what_to_do(answer: httpx.Response, code: str, says: str) -> None:
    with server(lambda _: answer, "http://user:secret@runs.test/mlflow") as one, pytest.raises(MlflowError) as told:
        one.list_runs("0", "trainyard.job", "job_1")
    assert told.value.code == code
    assert says in str(told.value)
    assert "secret" not in str(told.value)


def test_a_server_that_answers_with_json_of_another_kind_is_no_tracking_server() -> None:
    with server(lambda _: httpx.Response(200, json={"status": "ok"})) as one:
        for ask in (lambda: one.find_or_make_experiment("a"), lambda: one.make_run("0", "a", 0, {})):
            with pytest.raises(MlflowError, match="is this a tracking server") as told:
                ask()
            assert told.value.code == "mlflow_not_understood"


@pytest.mark.parametrize("uri", ["mlruns", "sqlite:///mlflow.db", "databricks", "http://", "file:///tmp/x"])
def test_an_address_of_no_server_is_refused(uri: str) -> None:
    with pytest.raises(MlflowError) as told:
        MlflowServer(uri, MlflowSettings())
    assert (told.value.code, "http://host:port" in str(told.value)) == ("mlflow_address_invalid", True)


def test_a_run_with_artifacts_at_another_server_gets_none(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        return httpx.Response(200)

    with server(answer) as one:
        for uri in ("mlflow-artifacts:/1/r/artifacts", "mlflow-artifacts://runs.test/1/r/artifacts"):
            one.put_artifact({"info": {"artifact_uri": uri}}, "a folder/file", tmp_path / "file")
        for uri in ("mlflow-artifacts://other.test/1/r/artifacts", "s3://bucket/1", "/var/runs/1"):
            with pytest.raises(MlflowError, match="--no-artifacts"):
                one.put_artifact({"info": {"artifact_uri": uri}}, "file", tmp_path / "file")
    assert sent == ["/mlflow/api/2.0/mlflow-artifacts/artifacts/1/r/artifacts/a folder/file"] * 2
