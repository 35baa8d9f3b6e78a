from pathlib import Path

import pytest

from api.__main__ import serve
from api.app import create_app
from tests.api.served import FakeRuntime, Served, error_of, wait_until
from tests.trainyard.rows import revision_of_tables
from trainyard.build import build_id
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
        "storage_detail": None,
        "draining": False,
        "queue": "ok",
        "model": "none",
        "detail": None,
        "version": build_id(),
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
        assert "trainyard migrate" in response.json()["detail"]
        error_of(served.http.post("/jobs", json={"dataset": "digits"}), 503, "database_unavailable")
        migrate(database)
        assert served.http.get("/readyz").status_code == 200
        assert served.http.get("/datasets/digits").status_code == 200
    finally:
        served.stop()
        database.close()


@pytest.mark.parametrize(
    ("revision", "standing", "advice"), [("9999", "ahead", "newer release"), ("0003", "behind", "trainyard migrate")]
)
def test_tables_of_another_release_are_named_and_take_no_job(
    served: Served, revision: str, standing: str, advice: str
) -> None:
    job_id = served.add_job()
    with revision_of_tables(served.database, revision):
        response = served.http.get("/readyz")
        assert (response.status_code, response.json()["migrations"]) == (503, standing)
        assert advice in response.json()["detail"]
        refused = served.http.post("/jobs", json={"dataset": "digits"})
        assert advice in error_of(refused, 503, "database_unavailable")["message"]
        assert int(refused.headers["retry-after"]) > 1
        assert served.http.get(f"/jobs/{job_id}").status_code == 200
    assert served.http.get("/readyz").status_code == 200
    assert len(served.http.get("/jobs").json()["data"]) == 1


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
