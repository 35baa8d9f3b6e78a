"""The pages for which a yard runs already: what they say is done, and what is printed is what stands there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.documentation.preparations import PREPARATIONS, Trained, train
from tests.documentation.reading import read_page
from tests.integration.running import RunningYard, running_yard

pytestmark = [pytest.mark.end_to_end, pytest.mark.documentation]


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    with running_yard(tmp_path_factory.mktemp("yard") / "data") as running:
        yield running


@pytest.fixture(scope="module")
def trained(yard: RunningYard, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return train(yard.url, tmp_path_factory.mktemp("pictures"))


@pytest.fixture
def tidied(yard: RunningYard) -> Iterator[None]:
    """What a page has left in the queue is cancelled, and its aliases go."""
    yield
    tidy(yard.url)


def tidy(url: str) -> None:
    """Leave a yard to the next page."""
    with httpx.Client(base_url=url, timeout=60, trust_env=False) as http:
        for job in http.get("/jobs?limit=100").raise_for_status().json()["data"]:
            if job["state"] in {"queued", "running", "pausing", "paused"}:
                http.post(f"/jobs/{job['id']}/cancel").raise_for_status()
        for alias in http.get("/aliases").raise_for_status().json()["data"]:
            http.delete(f"/aliases/{alias['name']}").raise_for_status()


@pytest.mark.parametrize("page", [page for page, it in PREPARATIONS.items() if it.yard == "shared"])
def test_a_page_does_what_it_says(page: str, yard: RunningYard, trained: Trained, tidied: None, tmp_path: Path) -> None:
    read_page(page, tmp_path / "reader", httpx.URL(yard.url).port or 80, trained)
