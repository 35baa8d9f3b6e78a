"""The Yard view: what a worker tells of its GPUs, and the workers that are gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from sqlalchemy import delete, update

from tests.browser.conftest import PHONE, Photograph
from tests.browser.many_jobs import open_tables
from tests.browser.watching import list_faults, open_view, scrolls_sideways
from tests.integration.running import RunningYard
from trainyard.database.connection import Database
from trainyard.database.tables import Worker
from trainyard.scheduling import workers
from trainyard.scheduling.workers import DeviceReading, WorkerIdentity

GB = 10**9
NAME = "NVIDIA H100 80GB HBM3"
GPUS = WorkerIdentity("wrk_test_gpus", "gpu-box", 4242, ("cuda:0", "cuda:1"))
READINGS = [DeviceReading(NAME, 80 * GB, 9_100_000_000, 0.62), DeviceReading(NAME, 80 * GB, 1 * GB, None)]
NUM_STOPPED = 60

Stand = Callable[..., None]


@pytest.fixture
def database(yard: RunningYard) -> Iterator[Database]:
    opened = open_tables(yard.folder)
    yield opened
    opened.close()


@pytest.fixture
def stand(database: Database) -> Iterator[Stand]:
    """Puts a worker into the database, or gives it a heartbeat; it is taken out again at the end."""
    made: set[str] = set()

    def put(identity: WorkerIdentity, *readings: DeviceReading, **columns: Any) -> None:
        made.add(identity.id)
        with database.writing() as session:
            workers.mark_seen(session, identity, draining=False, readings=readings)
            session.flush()
            if columns:
                session.execute(update(Worker).where(Worker.id == identity.id).values(columns))

    yield put
    with database.writing() as session:
        session.execute(delete(Worker).where(Worker.id.in_(made)))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_worker_s_gpus_are_named_with_how_busy_and_how_full_they_are(
    page: Page, yard: RunningYard, stand: Stand, photograph: Photograph, scheme: str
) -> None:
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    stand(GPUS, *READINGS)
    open_view(page, yard.url, "#/yard")
    card = page.locator("article").filter(has_text="gpu-box")
    first, second = card.locator("li").nth(0), card.locator("li").nth(1)
    expect(first).to_contain_text(f"cuda:0 {NAME}")
    expect(first).to_contain_text("62 % busy, 9.1 GB of 80 GB")
    expect(second).to_contain_text("1.0 GB of 80 GB")
    expect(second).not_to_contain_text("busy")
    photograph(page, f"yard-gpus{'' if scheme == 'light' else '-dark'}")
    assert list_faults(page) == []
    busier = DeviceReading(NAME, 80 * GB, 71_500_000_000, 1.0)
    stand(GPUS, busier, busier)
    expect(first).to_contain_text("100 % busy, 72 GB of 80 GB", timeout=20_000)  # without a reload
    page.set_viewport_size(PHONE)
    assert not scrolls_sideways(page)
    photograph(page, f"yard-gpus-phone{'' if scheme == 'light' else '-dark'}")


def test_workers_that_are_gone_are_behind_their_number_and_of_many_the_last(
    page: Page, yard: RunningYard, stand: Stand, photograph: Photograph
) -> None:
    moment = time.time()
    for number in range(NUM_STOPPED):
        at = moment - 60 * (NUM_STOPPED - number)
        identity = WorkerIdentity(f"wrk_test_{number:02}", f"stopped-{number:02}", 7, ("cpu",))
        stand(identity, started_at=at - 30, last_seen_at=at, stopped_at=at)
    stand(WorkerIdentity("wrk_lost", "lost-now", 7, ("cpu",)), last_seen_at=moment - 240)
    stand(WorkerIdentity("wrk_lost_long", "lost-long", 7, ("cpu",)), last_seen_at=moment - 7200)
    open_view(page, yard.url, "#/yard")
    expect(page.locator("article").filter(has_text="lost-now")).to_contain_text("last seen 4 min ago")
    expect(page.locator("article")).to_have_count(2)  # the yard's own, and the one that was just lost
    summary = page.locator("summary")
    expect(summary).to_contain_text(f"{NUM_STOPPED} stopped and 1 lost worker")
    summary.click()
    gone = page.locator("details li")
    expect(gone.last).to_have_text("These are of the 50 that were started last.")
    hosts = page.locator("details .host").all_inner_texts()
    assert hosts[-1] == "lost-long", "it was there last two hours ago"
    assert hosts[:-1] == [f"stopped-{number:02}" for number in range(59, 59 - len(hosts[:-1]), -1)]
    assert len(hosts) == 49, "the one that was just lost is shown among the others"
    photograph(page, "yard-stopped")
    assert list_faults(page) == []
    summary.click()
    expect(gone).to_have_count(0)
