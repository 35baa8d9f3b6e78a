from pathlib import Path

import pytest

from api.__main__ import serve
from api.app import create_app
from tests.api.served import FakeRuntime, Served, wait_until
from trainyard.database.connection import Database
from trainyard.database.schema import migrate
from trainyard.settings import Settings


def test_a_whole_yard_is_ready(served: Served) -> None:
    assert served.http.get("/healthz").json() == {"status": "ok"}
    response = served.http.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "database": "ok",
        "migrations": "ok",
        "storage": "ok",
        "draining": False,
        "queue": "ok",
        "model": "none",
    }


def test_a_draining_process_is_not_ready(served: Served) -> None:
    served.app.state.services.draining = True
    response = served.http.get("/readyz")
    assert response.status_code == 503
    assert response.json()["draining"] is True


def test_a_silent_queue_is_named_but_ready(served: Served) -> None:
    served.app.state.services.reconciler.relay.queue_is_up = False
    response = served.http.get("/readyz")
    assert (response.status_code, response.json()["queue"]) == (200, "degraded")


def test_tables_that_are_behind_are_not_ready_and_then_are(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    database = Database(settings.sqlalchemy_url)
    served = Served(create_app(settings, database=database, runtime=FakeRuntime()), database, settings)
    try:
        response = served.http.get("/readyz")
        assert (response.status_code, response.json()["migrations"]) == (503, "behind")
        migrate(database)
        assert served.http.get("/readyz").status_code == 200
        assert served.http.get("/datasets/digits").status_code == 200
    finally:
        served.stop()
        database.close()


def test_the_model_is_named(served: Served) -> None:
    served.add_checkpoint(served.add_job(), 1)
    wait_until(lambda: served.http.get("/readyz").json()["model"] == "ok")


def test_an_open_network_without_a_key_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TRAINYARD_HOST", "0.0.0.0")
    assert serve() == 2
    assert "TRAINYARD_ADMIN_KEY" in capsys.readouterr().err


def test_a_bad_setting_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TRAINYARD_PORT", "99999")
    assert serve() == 2
    assert capsys.readouterr().err.startswith("trainyard api: port: ")
