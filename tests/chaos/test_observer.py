from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from tests.chaos.observer import Observer, Process, list_processes


@pytest.fixture
def observer(tmp_path: Path) -> Observer:
    return Observer(tmp_path, overlap_s=2.0)


def looks(observer: Observer, *each: tuple[float, list[Process]]) -> list[str]:
    """Return the complaints after some looks, given when they are and which processes there were."""
    for at, processes in each:
        observer.alive = partial(list, processes)
        observer.look(at)
    return observer.complaints


def trainer(observer: Observer, pid: int, *, worker: int = 1, job: str = "job_a") -> Process:
    return Process(pid, worker, str(observer.data_dir / f"logs/jobs/{job}.log"))


WORKER = Process(1, 0, "/dev/null")


def test_a_trainer_may_outlive_its_worker_for_a_moment_only(observer: Observer) -> None:
    with_worker, alone = [WORKER, trainer(observer, 7)], [trainer(observer, 7, worker=0)]
    assert looks(observer, (0, with_worker), (1, alone), (5.9, alone)) == []
    assert looks(observer, (6.1, alone)) == ["trainer 7 outlives its worker 1"]


def test_two_trainers_of_one_job_may_overlap_for_a_moment_only(observer: Observer) -> None:
    both = [WORKER, trainer(observer, 7), trainer(observer, 8)]
    one, other = both[:2], [WORKER, trainer(observer, 7), trainer(observer, 8, job="job_b")]
    assert looks(observer, (0, both), (1.9, both), (2.5, one), (3, both), (4, other), (9, other)) == []
    stopped = [WORKER, trainer(observer, 7)._replace(is_stopped=True), trainer(observer, 8)]
    assert looks(observer, (10, stopped), (19, stopped)) == []
    assert looks(observer, (20, both), (22.1, both)) == ["job_a is trained by 2 processes at once"]


def test_other_yards_are_not_looked_at(observer: Observer) -> None:
    others = [Process(pid, 1, "/elsewhere/logs/jobs/job_a.log") for pid in (7, 8)]
    assert looks(observer, (0, others), (60, others)) == []


def test_a_checkpoint_that_changes_is_seen_and_one_that_goes_is_not(observer: Observer) -> None:
    folder = observer.data_dir / "checkpoints/job_a/epoch-1"
    folder.mkdir(parents=True)
    for name in ("manifest.json", "weights"):
        (folder / name).write_text("1")
    moments: list[tuple[float, list[Process]]] = [(float(at), []) for at in range(10)]
    assert looks(observer, *moments) == []
    (folder / "weights").write_text("22")
    assert looks(observer, *moments) == ["checkpoints/job_a/epoch-1/weights was changed"]
    (folder / "weights").unlink()
    assert len(looks(observer, *moments)) == 1


def test_a_process_is_known_by_its_parent_and_its_output(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=log)
    found = {process.pid: process for process in list_processes()}
    assert found[child.pid] == Process(child.pid, os.getpid(), str(tmp_path / "log"))
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert Process(child.pid, os.getpid(), str(tmp_path / "log"), is_stopped=True) in list_processes()
    child.kill()
    child.communicate()
    assert child.pid not in {process.pid for process in list_processes()}
