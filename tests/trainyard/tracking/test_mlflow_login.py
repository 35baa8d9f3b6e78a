"""The login of a real tracking server: by user and password, in the environment or the address, and by a token."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.api.served import Served
from tests.trainyard.commands.conftest import Run
from tests.trainyard.tracking.conftest import run_mlflow, train

pytestmark = pytest.mark.slow

ADMIN = ("admin", "the password of the admin")
USER, PASSWORD, TOKEN = "ada", "a password of ada's", "a-token"


@pytest.fixture(scope="module")
def locked(mlflow_programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a tracking server that asks who one is, and knows Ada."""
    folder = tmp_path_factory.mktemp("mlflow-login")
    config = folder / "basic_auth.ini"
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/users.db\n"
        f"admin_username = {ADMIN[0]}\nadmin_password = {ADMIN[1]}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n"
    )
    environment = {"MLFLOW_AUTH_CONFIG_PATH": str(config), "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-this-test"}
    with run_mlflow(mlflow_programs, folder, "--app-name", "basic-auth", **environment) as address:
        made = httpx.post(
            f"{address}/api/2.0/mlflow/users/create",
            json={"username": USER, "password": PASSWORD},
            auth=ADMIN,
            trust_env=False,
            timeout=60,
        )
        assert made.is_success, made.text
        yield address


def test_a_user_with_a_password_exports_and_a_stranger_does_not(
    served: Served, run: Run, locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = served.add_job()
    train(served, job_id, 1)

    def export(address: str = locked) -> tuple[int, str]:
        done = run("export", "mlflow", job_id, "--to", address, "--experiment", "of ada", "--json")
        return done.exit_code, done.stdout or json.loads(done.stderr)["error"]["code"]

    assert export() == (1, "mlflow_not_allowed")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "another")
    assert export() == (1, "mlflow_not_allowed")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    status, told = export()
    assert status == 0, told
    [first] = json.loads(told)
    assert (first["points"], len(first["files"])) == (9, 8), "artifacts are let in as well"
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD")
    with_user = locked.replace("http://", f"http://{USER}:{PASSWORD.replace(' ', '%20')}@")
    status, told = export(with_user)
    assert status == 0, told
    [second] = json.loads(told)
    assert (second["run"], second["points"]) == (first["run"], 0)
    assert PASSWORD.split()[0] + "%20" not in told, "the page's address names no password"


def test_a_user_who_may_not_write_to_an_experiment_is_told(
    served: Served, run: Run, locked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = httpx.post(
        f"{locked}/api/2.0/mlflow/experiments/create",
        json={"name": "of others"},
        auth=ADMIN,
        trust_env=False,
        timeout=60,
    )
    assert made.is_success, made.text
    job_id = served.add_job()
    train(served, job_id, 1)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    done = run("export", "mlflow", job_id, "--to", locked, "--experiment", "of others", "--json")
    assert (done.exit_code, json.loads(done.stderr)["error"]["code"]) == (1, "mlflow_not_allowed")
    assert "who may write to this experiment" in done.stderr


@pytest.fixture
def behind_a_token(mlflow: str) -> Iterator[str]:
    """The address of a proxy that lets in who has the token, as MLflow's own server knows none."""

    class Proxy(BaseHTTPRequestHandler):
        def answer(self) -> None:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Transfer-Encoding") == "chunked":
                content = self.read_chunks()
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                return self.send(401, b"a token is needed")
            kind = self.headers.get("Content-Type", "application/octet-stream")
            got = httpx.request(
                self.command,
                mlflow + self.path,
                content=content,
                headers={"Content-Type": kind},
                trust_env=False,
                timeout=60,
            )
            return self.send(got.status_code, got.content)

        do_GET = do_POST = do_PUT = answer

        def read_chunks(self) -> bytes:
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content

        def send(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_token_is_sent_with_every_request(
    served: Served, run: Run, behind_a_token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = served.add_job()
    train(served, job_id, 1)
    options = ["--to", behind_a_token, "--experiment", "by token", "--json"]
    for token, status in (("wrong", 1), (TOKEN, 0)):
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", token)
        done = run("export", "mlflow", job_id, *options)
        assert done.exit_code == status, done.output
    [told] = json.loads(done.stdout)
    assert (told["points"], len(told["files"])) == (9, 8)
