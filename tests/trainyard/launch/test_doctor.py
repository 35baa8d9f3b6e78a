"""What `trainyard doctor` finds, and what it advises."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr
from typer.testing import CliRunner

from tests.api.conftest import database, runtime, serve, served, settings
from tests.api.served import Served
from trainyard.database.connection import Database
from trainyard.launch import cli, doctor
from trainyard.launch.doctor import Verdict
from trainyard.settings import Settings

__all__ = ["database", "runtime", "serve", "served", "settings"]

OK, WARNING, PROBLEM = Verdict.OK, Verdict.WARNING, Verdict.PROBLEM
CPU_TORCH: dict[str, Any] = {"version": "2.14.1+cpu", "cuda": None, "gpus": []}
CUDA_TORCH: dict[str, Any] = {"version": "2.14.1", "cuda": "13.0", "gpus": []}


def test_everything_is_checked_on_a_yard_that_runs(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_ask_torch", lambda: CPU_TORCH)  # a start of torch takes seconds
    command = ["doctor", "--data-dir", str(served.settings.data_dir), "--url", served.url, "--json"]
    monkeypatch.setenv("TRAINYARD_PORT", str(served.port))
    done = CliRunner().invoke(cli.app, command)
    found = {each["check"]: each for each in json.loads(done.stdout)}
    assert set(found) == {
        "python", "torch", "gpu", "permissions", "disk", "open files", "database", "queue", "port", "yard", "clock",
    }  # fmt: skip
    assert "a yard answers" in found["port"]["text"]
    assert "tables of this version" in found["database"]["text"]
    assert "starts Valkey 9" in found["queue"]["text"]
    assert "from the yard's" in found["clock"]["text"]
    assert {each["verdict"] for each in found.values()} <= {"ok", "warning"}
    assert done.exit_code == 0
    assert f"ok      yard: {served.url} is ready" in CliRunner().invoke(cli.app, command[:-1]).stdout


@pytest.mark.parametrize(
    ("version", "bits", "verdict"), [((3, 11, 7), 64, OK), ((3, 10, 1), 64, PROBLEM), ((3, 13, 0), 32, PROBLEM)]
)
def test_python(version: tuple[int, ...], bits: int, verdict: Verdict) -> None:
    assert doctor.check_python(version, bits).verdict is verdict


@pytest.mark.parametrize(
    ("torch", "driver", "verdicts", "advice"),
    [
        (CPU_TORCH, None, (OK, OK), ""),
        (CUDA_TORCH | {"gpus": ["H200"]}, "H200, 580.1, 141 GiB", (OK, OK), ""),
        (CUDA_TORCH, "H200, 470.1, 141 GiB", (OK, PROBLEM), "CUDA 13.0"),
        (CPU_TORCH, "H200, 580.1, 141 GiB", (OK, PROBLEM), "built for CPUs"),
        (CUDA_TORCH, "", (OK, WARNING), "nvidia-smi"),
        ("OSError: libcudart.so.13", None, (PROBLEM, OK), "make setup"),
        (None, None, (WARNING, OK), "trainyard[yard]"),
    ],
)
def test_torch_and_gpu(torch: Any, driver: str | None, verdicts: tuple[Verdict, Verdict], advice: str) -> None:
    found = [doctor.check_torch(torch), doctor.check_gpu(torch, driver)]
    assert tuple(each.verdict for each in found) == verdicts
    assert advice in " ".join(each.advice or "" for each in found)


def test_a_data_folder_that_is_a_file_or_open_to_others(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert doctor.check_permissions(Settings(data_dir=tmp_path / "file")).verdict is PROBLEM
    tmp_path.chmod(0o755)
    assert doctor.check_permissions(Settings(data_dir=tmp_path)).verdict is WARNING
    assert "not made yet" in doctor.check_permissions(Settings(data_dir=tmp_path / "new")).text
    assert not (tmp_path / "new").exists(), "a check makes nothing"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, verdict in ((10, PROBLEM), (5e9, WARNING), (5e10, OK)):
        monkeypatch.setattr(shutil, "disk_usage", lambda _, free=free: SimpleNamespace(free=free))
        assert doctor.check_disk(Settings(data_dir=tmp_path)).verdict is verdict


def test_a_database_of_an_older_version_and_one_that_is_away(tmp_path: Path) -> None:
    assert "first start" in doctor.check_database(Settings(data_dir=tmp_path)).text
    older = Settings(data_dir=tmp_path)
    empty = Database(older.sqlalchemy_url)
    with empty.writing():
        pass
    empty.close()
    assert doctor.check_database(older).advice == "trainyard migrate"
    away = Settings(database_url=SecretStr("postgresql+psycopg://u:secret@127.0.0.1:1/x"))
    found = doctor.check_database(away)
    assert found.verdict is PROBLEM
    assert "secret" not in str(found)


def test_a_queue_that_is_away() -> None:
    found = doctor.check_queue(Settings(redis_url=SecretStr("redis://:secret@127.0.0.1:1/0")))
    assert found.verdict is PROBLEM
    assert "secret" not in str(found)


def test_a_port_that_another_program_has() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        found = doctor.check_port(Settings(port=other.getsockname()[1]))
    assert (found.verdict, "can't be used" in found.text) == (PROBLEM, True)


def test_a_yard_that_refuses_the_key_or_is_not_there(serve: Any) -> None:
    yard = serve(admin_key=SecretStr("k" * 16))
    command = ["doctor", "--data-dir", str(yard.settings.data_dir), "--url", yard.url]
    found = doctor.check_yard(yard.url, None)
    assert (found.verdict, found.advice) == (PROBLEM, f"trainyard login {yard.url}")
    assert doctor.check_yard(yard.url, "k" * 16).verdict is OK
    done = CliRunner().invoke(cli.app, command, env={"TRAINYARD_PORT": str(yard.port)})
    assert (done.exit_code, "problem yard:" in done.stdout) == (1, True)
    assert doctor.check_yard("http://127.0.0.1:1", None).verdict is WARNING
    assert doctor.check_clock(Settings(), "http://127.0.0.1:1").verdict is OK


def test_a_check_that_fails_unexpectedly_is_a_problem() -> None:
    def fail() -> doctor.Finding:
        raise RuntimeError("unforeseen")

    assert doctor._run("disk", fail) == doctor.Finding("disk", PROBLEM, "can't be checked: RuntimeError: unforeseen")
