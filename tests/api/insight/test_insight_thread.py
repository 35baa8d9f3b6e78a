"""The order of work, its limits, and the end of the child that has nothing to do."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from typing import Any, cast

import pytest

from api.insight.child_process import InsightProcess
from api.insight.insight_thread import InsightThread
from tests.api.served import wait_until
from trainyard.insight_errors import InsightQueueFull


class FakeProcess:
    """A child that is there from its first use until it is closed."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.interrupted = threading.Event()

    def use(self) -> None:
        self.pid = 1

    def interrupt(self) -> None:
        self.interrupted.set()

    def close(self) -> None:
        self.pid = None


@pytest.fixture
def process() -> FakeProcess:
    return FakeProcess()


@pytest.fixture
def thread(process: FakeProcess) -> Iterator[InsightThread]:
    one = InsightThread(cast("InsightProcess", process), idle_s=0.2, max_waiting=2)
    yield one
    one.close()


def test_what_clients_wait_for_goes_before_longer_work(thread: InsightThread) -> None:
    done: list[str] = []
    began, gate = threading.Event(), threading.Event()

    def step(_: Any) -> float | None:
        began.set()
        gate.wait(60)
        done.append("step")
        return 0 if done.count("step") < 3 else None

    async def ask() -> None:
        thread.repeat(step)
        await asyncio.to_thread(began.wait, 10)
        work = asyncio.ensure_future(thread.run(lambda _: done.append("asked")))
        await asyncio.sleep(0)
        gate.set()
        await work

    asyncio.run(ask())
    wait_until(lambda: done.count("step") == 3)
    assert done == ["step", "asked", "step", "step"]


def test_longer_works_take_turns(thread: InsightThread) -> None:
    done: list[str] = []
    gate = threading.Event()

    def build(name: str) -> Any:
        def step(_: Any) -> float | None:
            gate.wait(60)
            done.append(name)
            return 0 if done.count(name) < 3 else None

        return step

    thread.repeat(build("a"))
    thread.repeat(build("b"))
    gate.set()
    wait_until(lambda: len(done) == 6)
    assert done == ["a", "b"] * 3


def test_beyond_the_limit_it_is_refused_and_what_is_cancelled_is_not_done(thread: InsightThread) -> None:
    held, gate, done = threading.Event(), threading.Event(), list[int]()

    async def ask() -> None:
        def hold(_: Any) -> None:
            held.set()
            gate.wait(60)

        holding = asyncio.ensure_future(thread.run(hold))
        await asyncio.to_thread(held.wait, 60)
        waiting = [asyncio.ensure_future(thread.run(lambda _, i=i: done.append(i))) for i in range(2)]  # type: ignore[misc]  # mypy knows no default of a lambda
        await asyncio.sleep(0)
        with pytest.raises(InsightQueueFull) as refusal:
            await thread.run(lambda _: None)
        assert refusal.value.retry_after_s == 3
        waiting[0].cancel()
        await asyncio.sleep(0)
        gate.set()
        await holding
        await waiting[1]

    asyncio.run(ask())
    assert done == [1]


def test_a_step_that_fails_ends_alone(thread: InsightThread, caplog: pytest.LogCaptureFixture) -> None:
    done: list[int] = []

    def fail(_: Any) -> float | None:
        raise RuntimeError("no")

    thread.repeat(fail)
    thread.repeat(lambda _: done.append(1))
    wait_until(lambda: done == [1])
    assert "a computation for insight failed" in caplog.text


def test_an_error_is_the_askers(thread: InsightThread) -> None:
    def fail(_: Any) -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        asyncio.run(thread.run(fail))


def test_a_child_without_work_is_ended(thread: InsightThread, process: FakeProcess) -> None:
    asyncio.run(thread.run(lambda _: process.use()))
    assert process.pid == 1
    wait_until(lambda: process.pid is None)


def test_steps_that_wait_use_no_core(thread: InsightThread) -> None:
    calls: list[float] = []

    def step(_: Any) -> float | None:
        calls.append(time.monotonic())
        return 0.1 if len(calls) < 3 else None

    thread.repeat(step)
    wait_until(lambda: len(calls) == 3)
    assert calls[2] - calls[0] >= 0.2


def test_at_the_end_what_waits_is_refused_and_the_child_is_killed(process: FakeProcess) -> None:
    thread = InsightThread(cast("InsightProcess", process), max_waiting=4)
    held = threading.Event()

    def hold(_: Any) -> bool:
        held.set()
        return process.interrupted.wait(60)

    async def ask() -> None:
        holding = asyncio.ensure_future(thread.run(hold))
        await asyncio.to_thread(held.wait, 60)
        waiting = asyncio.ensure_future(thread.run(lambda _: None))
        await asyncio.sleep(0)
        await asyncio.to_thread(thread.close)
        assert await holding
        with pytest.raises(InsightQueueFull):
            await waiting
        with pytest.raises(InsightQueueFull):
            await thread.run(lambda _: None)

    asyncio.run(ask())
