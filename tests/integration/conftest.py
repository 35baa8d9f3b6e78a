"""One yard for all tests of a module, and fleets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.fleet import Fleet, Gather
from tests.integration.running import WITH_SPARE, RunningYard, running_yard
from trainyard.client import Client


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    settings = WITH_SPARE | {"TRAINYARD_SERVING_PRECISION": "fp32"}
    with running_yard(tmp_path_factory.mktemp("yard") / "data", **settings) as running:
        yield running


@pytest.fixture
def client(yard: RunningYard) -> Iterator[Client]:
    with Client(yard.url) as connected:
        yield connected


@pytest.fixture
def gather(tmp_path: Path) -> Iterator[Gather]:
    """Starts fleets that end with the test."""
    fleets: list[Fleet] = []

    def start(**settings: Any) -> Fleet:
        fleets.append(Fleet(tmp_path / f"data-{len(fleets)}", **settings))
        return fleets[-1]

    yield start
    for fleet in fleets:
        fleet.stop()
