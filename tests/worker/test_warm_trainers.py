"""Which trainer the next attempt gets."""

from __future__ import annotations

import gc
import os
import subprocess
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from worker import trainer as trainer_module
from worker.trainer import TrainerProcess, WarmTrainers


class Process:
    """A trainer's process that does nothing."""

    made: list[Process]
    one_more = threading.Condition()

    def __init__(self, threads: int = 1) -> None:
        self.is_alive, self.is_ready = True, False
        with self.one_more:
            self.made.append(self)
            self.one_more.notify_all()

    def kill(self) -> None:
        self.is_alive = False

    def wait(self) -> int:
        return -9


@pytest.fixture(params=[True])
def trainers(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[WarmTrainers]:
    """Trainers of a worker that keeps a spare; by parameter, of one that keeps none."""
    Process.made = []
    monkeypatch.setattr(trainer_module, "TrainerProcess", Process)
    trainers = WarmTrainers(1, keeps_spare=request.param)
    trainers.start()
    yield trainers
    trainers.close()
    trainers.join(60)
    assert not trainers.is_alive()


def take(trainers: WarmTrainers) -> Process:
    return cast(Process, trainers.take(lambda: None))


def have_spare(trainers: WarmTrainers, number: int) -> Process:
    """The spare, the so manieth that was made."""
    trainers.want_spare()
    with Process.one_more:
        assert Process.one_more.wait_for(lambda: len(Process.made) == number, 60)
    return Process.made[-1]


def test_a_trainer_that_can_not_be_started_is_tried_again_and_its_taker_hears_of_the_wait(
    trainers: WarmTrainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits = 0

    def fail(threads: int) -> Process:
        raise RuntimeError("can't start new thread")

    def wait() -> None:
        nonlocal waits
        waits += 1
        if waits == 2:
            monkeypatch.setattr(trainer_module, "TrainerProcess", Process)

    monkeypatch.setattr(trainer_module, "TrainerProcess", fail)
    assert cast(Process, trainers.take(wait)).is_alive
    assert waits >= 2


def test_whoever_waits_for_a_trainer_can_give_up(trainers: WarmTrainers, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(threads: int) -> Process:
        raise BlockingIOError("no process left")

    def give_up() -> None:
        raise InterruptedError

    monkeypatch.setattr(trainer_module, "TrainerProcess", fail)
    with pytest.raises(InterruptedError):
        trainers.take(give_up)


@pytest.mark.parametrize("trainers", [False], indirect=True)
def test_without_a_spare_none_is_started_for_one_who_gave_up(
    trainers: WarmTrainers, monkeypatch: pytest.MonkeyPatch
) -> None:
    test_whoever_waits_for_a_trainer_can_give_up(trainers, monkeypatch)
    monkeypatch.setattr(trainer_module, "TrainerProcess", Process)
    for _ in range(30):  # longer than the pause after a start that failed
        with trainers._changed:
            trainers._changed.notify_all()
        time.sleep(0.1)
    assert Process.made == []


def test_a_trainer_whose_listener_can_not_be_started_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []
    popen = subprocess.Popen

    def remember(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        started.append(popen(*arguments, **options))
        return started[-1]

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(subprocess, "Popen", remember)
    monkeypatch.setattr(threading.Thread, "start", fail)
    gc.collect()  # what other tests have left
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RuntimeError, match="can't start new thread"):
        TrainerProcess(1)
    assert [process.returncode for process in started] == [-9]
    started.clear()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def take_back(trainers: WarmTrainers, process: Process) -> bool:
    return trainers.take_back(cast(TrainerProcess, process))


def test_a_stopped_trainer_replaces_a_spare_that_is_not_ready(trainers: WarmTrainers) -> None:
    first = take(trainers)
    spare = have_spare(trainers, 2)
    assert take_back(trainers, first)
    assert not spare.is_alive, "it would only take the cores from the one that is resumed"
    assert take(trainers) is first
    assert len(Process.made) == 2


def test_a_stopped_trainer_is_the_spare_where_there_is_none(trainers: WarmTrainers) -> None:
    first = take(trainers)
    assert take_back(trainers, first)
    assert take(trainers) is first


def test_a_ready_spare_goes_before_a_stopped_trainer(trainers: WarmTrainers) -> None:
    first = take(trainers)
    spare = have_spare(trainers, 2)
    spare.is_ready = True
    assert not take_back(trainers, first)
    assert take(trainers) is spare


@pytest.mark.parametrize("trouble", ["it is dead", "the worker closes"])
def test_a_stopped_trainer_is_not_kept(trainers: WarmTrainers, trouble: str) -> None:
    first = take(trainers)
    if trouble == "it is dead":
        first.kill()
    else:
        trainers.close()
    assert not take_back(trainers, first)


def test_a_kept_trainer_that_died_while_it_waited_is_replaced(trainers: WarmTrainers) -> None:
    first = take(trainers)
    assert take_back(trainers, first)
    first.kill()
    second = take(trainers)
    assert second is not first
    assert second.is_alive


@pytest.mark.parametrize("trainers", [False], indirect=True)
def test_without_a_spare_a_trainer_is_started_for_its_job_alone(trainers: WarmTrainers) -> None:
    trainers.want_spare()
    with Process.one_more:
        assert not Process.one_more.wait_for(lambda: len(Process.made) > 0, 0.2)
    first = take(trainers)
    assert not take_back(trainers, first)
    second = take(trainers)
    assert Process.made == [first, second]
