"""One yard for all tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.running import RunningYard, start_yard
from trainyard.client import Client


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    running = start_yard(tmp_path_factory.mktemp("yard") / "data")
    try:
        yield running
    finally:
        running.stop()
        if running.process.stdout is not None:
            running.process.stdout.close()


@pytest.fixture
def client(yard: RunningYard) -> Iterator[Client]:
    with Client(yard.url) as connected:
        yield connected
