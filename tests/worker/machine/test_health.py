"""What a health check reads, and what it costs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from trainyard.settings import Settings
from worker.machine import health
from worker.machine.health import FOLDER, HealthFile, is_any_healthy


def written(data_dir: Path) -> Path:
    HealthFile(data_dir).write()
    return data_dir / FOLDER / f"{os.uname().nodename}-{os.getpid()}"


def check(data_dir: Path, *, before: str = "") -> int:
    """The exit status of the check, as an orchestrator starts it."""
    environment = os.environ | {"TRAINYARD_DATA_DIR": str(data_dir)}
    command = [sys.executable, "-m", "worker", "--healthcheck"]
    if before:
        code = f"import sys, runpy; sys.argv = ['worker', '--healthcheck']; {before}"
        command = [sys.executable, "-c", code + "; runpy.run_module('worker', run_name='__main__', alter_sys=False)"]
    return subprocess.run(command, env=environment, check=False, timeout=60).returncode


def test_a_worker_that_writes_is_healthy_and_one_that_ends_is_not(tmp_path: Path) -> None:
    assert not is_any_healthy(tmp_path)
    file = HealthFile(tmp_path)
    file.write()
    file.write()
    assert is_any_healthy(tmp_path)
    file.remove()
    assert not is_any_healthy(tmp_path)
    file.write()  # by a thread that was late
    assert not is_any_healthy(tmp_path)


@pytest.mark.parametrize("shift_s", [-16, 60], ids=["long ago", "before the machine was started again"])
def test_what_was_not_written_just_now_does_not_count(tmp_path: Path, shift_s: float) -> None:
    written(tmp_path).write_text(f"{time.monotonic() + shift_s:20.3f}\n")
    assert not is_any_healthy(tmp_path)


@pytest.mark.parametrize("content", ["", "soon", "nan", "inf", "-inf", "\x00" * 64])
def test_a_file_that_says_nothing_does_not_count(tmp_path: Path, content: str) -> None:
    written(tmp_path).write_text(content)
    assert not is_any_healthy(tmp_path)


@pytest.mark.parametrize(
    "rename",
    [
        lambda name: f"elsewhere-{os.getpid()}",
        lambda name: f"{os.uname().nodename}-{_of_no_process()}",
        lambda name: f"{os.uname().nodename}-worker",
    ],
    ids=["another machine", "a process that was killed", "no process"],
)
def test_another_s_file_does_not_count(tmp_path: Path, rename: Callable[[str], str]) -> None:
    file = written(tmp_path)
    file.rename(file.with_name(rename(file.name)))
    assert not is_any_healthy(tmp_path)


def test_what_killed_workers_left_is_removed(tmp_path: Path) -> None:
    file = written(tmp_path)
    left = [file.with_name(f"{os.uname().nodename}-{_of_no_process()}"), file.with_name("old-7")]
    for path in [*left, file.with_name("other-7")]:
        path.touch()
    os.utime(left[1], (0, 0))
    file.unlink()
    HealthFile(tmp_path).write()
    assert sorted(path.name for path in file.parent.iterdir()) == sorted([file.name, "other-7"])


def test_the_check_is_a_command_that_loads_no_library(tmp_path: Path) -> None:
    assert check(tmp_path) == 1
    written(tmp_path)
    refuse = "sys.modules.update(dict.fromkeys(['typer', 'pydantic', 'sqlalchemy', 'celery', 'trainyard', 'socket']))"
    assert check(tmp_path, before=refuse) == 0


def test_the_check_looks_where_the_worker_writes_by_default() -> None:
    assert Settings.model_fields["data_dir"].default == Path(health.DATA_DIR)


def _of_no_process() -> int:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        child.wait()
    return child.pid
