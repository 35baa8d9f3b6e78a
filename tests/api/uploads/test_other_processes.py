"""A writer of another process is ended if it gets no bytes, and left alone while it gets some."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from api.uploads.other_processes import OtherProcesses
from api.uploads.turns import Turn
from trainyard.artifacts.upload_files import UploadFile, UploadFolder
from trainyard.database.ids import new_id
from trainyard.upload_errors import UploadLocked

QUIET_S = 0.2


class Writer:
    """What this module uses of an `UploadWriter`."""

    def __init__(self, file: UploadFile) -> None:
        self.is_awaited = file.is_awaited


async def silent() -> AsyncIterator[bytes]:
    yield b"the first bytes"
    await anyio.sleep(30)


async def lively() -> AsyncIterator[bytes]:
    while True:
        yield b"more"
        await anyio.sleep(QUIET_S / 4)


@pytest.fixture
def folder(tmp_path: Path) -> UploadFolder:
    return UploadFolder(tmp_path)


@pytest.fixture
def upload(folder: UploadFolder) -> str:
    upload_id = new_id("upl")
    folder.create(upload_id)
    return upload_id


def others(folder: UploadFolder) -> OtherProcesses:
    return OtherProcesses(folder, anyio.CapacityLimiter(2), quiet_s=QUIET_S)


async def write(folder: UploadFolder, upload: str, body: AsyncIterator[bytes]) -> None:
    turn = Turn()
    with folder.opened(upload) as file, turn.scope:
        async with others(folder).seen_by(turn, Writer(file)):  # type: ignore[arg-type]  # it is only asked
            async for _ in turn.watch(body):
                pass


def test_nobody_is_waited_for_where_nobody_writes(folder: UploadFolder, upload: str) -> None:
    anyio.run(others(folder).replace, upload)
    anyio.run(others(folder).replace, new_id("upl"))  # its bytes are on another disk, or nowhere


def test_a_writer_without_bytes_ends_for_one_that_waits(folder: UploadFolder, upload: str) -> None:
    async def act() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, folder, upload, silent())
            await anyio.sleep(0.01)
            assert folder.is_written(upload)
            with anyio.fail_after(10):
                await others(folder).replace(upload)
            assert not folder.is_written(upload)

    anyio.run(act)


def test_a_writer_without_bytes_stays_while_nobody_waits(folder: UploadFolder, upload: str) -> None:
    async def act() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, folder, upload, silent())
            await anyio.sleep(4 * QUIET_S)
            assert folder.is_written(upload)
            tasks.cancel_scope.cancel()

    anyio.run(act)


def test_a_writer_whose_bytes_come_stays_and_the_other_one_is_refused(folder: UploadFolder, upload: str) -> None:
    async def act() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write, folder, upload, lively())
            await anyio.sleep(0.01)
            with pytest.raises(UploadLocked, match="another request writes"):
                await others(folder).replace(upload)
            assert folder.is_written(upload)
            tasks.cancel_scope.cancel()

    anyio.run(act)
