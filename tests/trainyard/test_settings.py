from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from trainyard.logs import JsonLines
from trainyard.settings import Settings


def test_a_network_address_without_a_key_is_refused() -> None:
    with pytest.raises(ValueError, match="TRAINYARD_ADMIN_KEY"):
        Settings(host="0.0.0.0").check_exposure()
    Settings(host="127.0.0.1").check_exposure()
    Settings(host="0.0.0.0", admin_key="k" * 16).check_exposure()
    Settings(host="0.0.0.0", allow_open_network=True).check_exposure()


def test_failpoints_need_testing_and_keys_are_long() -> None:
    wrongs: list[dict[str, Any]] = [{"failpoints": "a=b"}, {"admin_key": "short"}, {"log_level": "LOUD"}]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            Settings(**wrong)
    assert Settings(failpoints="a=b,c=d", testing=True).failpoint_values == {"a": "b", "c": "d"}


def test_every_setting_is_documented() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_settings_survive_the_way_through_an_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, admin_key="k" * 20, slots=2, testing=True, lease_ttl_s=4)
    assert "k" * 20 not in repr(settings)
    for name, value in settings.as_environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_a_log_record_is_one_line_of_json() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    record = logging.makeLogRecord({"msg": "a\nb %s", "args": ("\x1b[\r\n",), "name": "n\nm", "job_id": "x\ny"})
    handler.emit(record)
    (line,) = stream.getvalue().splitlines()
    assert json.loads(line)["job_id"] == "x\ny"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("data_dir", "s3://bucket/yard", "TRAINYARD_STORAGE_URL"),
        ("datasets_dir", "s3://bucket/sets", "TRAINYARD_STORAGE_URL"),
        ("storage_url", "/mnt/store", "s3://bucket/prefix"),
        ("storage_url", "s3://key:secret@bucket", "without a key"),
        ("storage_endpoint", "https://key:secret@host", "without a key"),
        ("storage_access_key", "one-without-the-other", "set both"),
    ],
)
def test_an_address_in_place_of_a_folder_and_half_an_object_store_are_refused(name: str, value: str, says: str) -> None:
    given: dict[str, Any] = {name: value}
    with pytest.raises(ValidationError, match=says):
        Settings(**given)


def test_an_object_stores_keys_are_in_no_text_of_the_settings() -> None:
    settings = Settings(storage_url="s3://bucket/yard", storage_access_key="access", storage_secret_key="hidden-one")
    assert "hidden-one" not in f"{settings!r} {settings}"
    assert settings.as_environment()["TRAINYARD_STORAGE_SECRET_KEY"] == "hidden-one"


@pytest.mark.parametrize("program", ["worker", "api", "trainyard migrate"])
def test_a_key_that_is_too_short_is_not_printed(program: str, tmp_path: Path) -> None:
    environment = os.environ | {"TRAINYARD_ADMIN_KEY": "hunter2", "TRAINYARD_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-m", *program.split()]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "admin_key is shorter than 16 characters" in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
