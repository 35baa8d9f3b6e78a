"""A page that is open for long holds no more than one that was just opened; for hours: `bench/page_memory.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Page

from tests.browser.growing_job import GrowingJob
from tests.browser.heap import Heap
from tests.browser.many_jobs import open_tables
from tests.browser.watching import open_view
from tests.integration.running import RunningYard, running_yard

ROUNDS = 6
POINTS = 500
MOST_GROWN_BYTES = 3_000_000
MOST_GROWN_NODES = 400
MOST_GROWN_LISTENERS = 40


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningYard]:
    """A yard of this module's own, because its job runs without a worker."""
    with running_yard(tmp_path_factory.mktemp("memory") / "data") as running:
        yield running


@pytest.fixture
def job(yard: RunningYard) -> Iterator[GrowingJob]:
    database = open_tables(yard.folder)
    yield GrowingJob(database)
    database.close()


def test_a_page_that_follows_a_job_and_changes_views_holds_no_more_after_a_while(
    page: Page, yard: RunningYard, job: GrowingJob
) -> None:
    job.grow(3000)  # the series is thinned, and has as many points as it will ever have
    open_view(page, yard.url, f"#/jobs/{job.id}")
    heap = Heap(page)
    for _ in range(2):  # each view's chunk is loaded, and what it keeps for itself is made
        job.walk(page)
    job.wait_until_shown(page)  # as at the end
    before = heap.read()
    for _ in range(ROUNDS):
        job.grow(POINTS)
        job.walk(page)
    job.wait_until_shown(page)
    grown = heap.read() - before
    assert grown.nodes < MOST_GROWN_NODES, grown
    assert grown.listeners < MOST_GROWN_LISTENERS, grown
    assert grown.heap_bytes < MOST_GROWN_BYTES, grown
