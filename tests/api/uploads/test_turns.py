"""Whose turn it is: a request that gets bytes is left alone, one that gets none is ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import anyio
import pytest

from api.uploads.turns import UploadTurns
from trainyard.upload_errors import UploadLocked

QUIET_S = 0.2


async def silent() -> AsyncIterator[bytes]:
    yield b"the first bytes"
    await anyio.sleep(30)


async def lively() -> AsyncIterator[bytes]:
    for _ in range(12):
        yield b"more"
        await anyio.sleep(QUIET_S / 4)


async def read(turns: UploadTurns, body: AsyncIterator[bytes], answers: list[str]) -> None:
    try:
        async with turns.taking("upl_1") as turn:
            async for _ in turn.watch(body):
                pass
        answers.append("whole")
    except UploadLocked:
        answers.append("ended")


def run(act: Callable[[UploadTurns], Awaitable[None]]) -> None:
    anyio.run(lambda: act(UploadTurns(quiet_s=QUIET_S)))


def test_a_request_without_bytes_is_ended_by_the_next_one() -> None:
    async def act(turns: UploadTurns) -> None:
        answers: list[str] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, turns, silent(), answers)
            await anyio.sleep(0.01)
            async with turns.taking("upl_1"):
                assert answers == ["ended"]

    run(act)


def test_a_request_that_gets_bytes_goes_on_and_the_next_one_is_refused() -> None:
    async def act(turns: UploadTurns) -> None:
        answers: list[str] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, turns, lively(), answers)
            await anyio.sleep(0.01)
            with pytest.raises(UploadLocked, match="upload of your own"):
                await turns.replace("upl_1")
        assert answers == ["whole"]

    run(act)


def test_a_request_that_saves_what_came_is_not_quiet() -> None:
    async def act(turns: UploadTurns) -> None:
        async def save() -> None:
            async with turns.taking("upl_1") as turn:
                async for _ in turn.watch(lively()):
                    await anyio.sleep(3 * QUIET_S)
                    return

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(save)
            await anyio.sleep(0.01)
            with pytest.raises(UploadLocked):
                await turns.replace("upl_1")

    run(act)


def test_who_gives_an_upload_up_ends_even_a_request_that_gets_bytes() -> None:
    async def act(turns: UploadTurns) -> None:
        answers: list[str] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read, turns, lively(), answers)
            await anyio.sleep(0.01)
            await turns.interrupt("upl_1")
            assert answers == ["ended"]

    run(act)


def test_of_two_that_come_at_once_one_is_refused() -> None:
    async def act(turns: UploadTurns) -> None:
        answers: list[str] = []
        async with anyio.create_task_group() as tasks:
            for body in (silent(), lively(), lively()):
                tasks.start_soon(read, turns, body, answers)
                await anyio.sleep(0.01)
        assert sorted(answers) == ["ended", "ended", "whole"]

    run(act)
