"""The Celery app as Celery's own command line finds it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import worker.app

ENVIRONMENT = {key: value for key, value in os.environ.items() if not key.startswith("TRAINYARD_")}


def celery(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "celery", "-A", "worker.app", *arguments]
    return subprocess.run(command, env=ENVIRONMENT | settings, capture_output=True, text=True, timeout=120, check=False)


def test_the_app_is_a_client_of_the_queue_that_the_environment_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAINYARD_REDIS_URL", "redis://:secret@127.0.0.1:1/0")
    app = worker.app.app
    assert app.conf.broker_url == "redis://:secret@127.0.0.1:1/0"
    assert app.conf.accept_content == ["json"]
    with pytest.raises(AttributeError):
        worker.app.another  # noqa: B018


def test_without_a_queue_celery_says_which_setting_is_missing() -> None:
    done = celery("inspect", "ping")
    assert done.returncode == 2
    assert "TRAINYARD_REDIS_URL is not set" in done.stderr


def test_celery_does_not_start_a_worker_that_would_train_nothing() -> None:
    done = celery("worker", TRAINYARD_REDIS_URL="redis://127.0.0.1:1/0")
    assert done.returncode == 2
    assert "start a worker with `python -m worker`" in done.stderr
